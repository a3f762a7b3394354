/* Preloaded into pymosn by test_files.py: a file with HANG_IN in its path is on a mount that hangs, while HANG_WHILE exists. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void wait_for(const char *path) {
    const char *part = getenv("HANG_IN"), *file = getenv("HANG_WHILE");
    if (path != NULL && part != NULL && file != NULL && strstr(path, part) != NULL)
        while (access(file, F_OK) == 0)
            usleep(20000);
}

#define OPEN(name)                                                          \
    int name(const char *path, int flags, ...) {                            \
        static int (*real)(const char *, int, ...);                         \
        va_list rest;                                                       \
        va_start(rest, flags);                                              \
        mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;           \
        va_end(rest);                                                       \
        if (real == NULL)                                                   \
            real = dlsym(RTLD_NEXT, #name);                                 \
        wait_for(path);                                                     \
        return real(path, flags, mode);                                     \
    }

OPEN(open)
OPEN(open64)

#define STAT(name, type)                                                    \
    int name(const char *path, struct type *found) {                        \
        static int (*real)(const char *, struct type *);                    \
        if (real == NULL)                                                   \
            real = dlsym(RTLD_NEXT, #name);                                 \
        wait_for(path);                                                     \
        return real(path, found);                                           \
    }

STAT(stat, stat)
STAT(stat64, stat64)
