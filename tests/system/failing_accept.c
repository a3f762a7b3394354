/* Preloaded into pymosn by test_limits.py: while the file FAIL_WHILE is there, the kernel gives no socket (FAIL_ERRNO). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static int fails(void) {
    const char *file = getenv("FAIL_WHILE");
    if (file == NULL || access(file, F_OK) != 0)
        return 0;
    errno = atoi(getenv("FAIL_ERRNO"));
    return 1;
}

int accept4(int fd, struct sockaddr *address, socklen_t *size, int flags) {
    static int (*real)(int, struct sockaddr *, socklen_t *, int);
    if (real == NULL)
        real = dlsym(RTLD_NEXT, "accept4");
    return fails() ? -1 : real(fd, address, size, flags);
}

int socket(int domain, int type, int protocol) {
    static int (*real)(int, int, int);
    if (real == NULL)
        real = dlsym(RTLD_NEXT, "socket");
    return fails() ? -1 : real(domain, type, protocol);
}
