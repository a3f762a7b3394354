// server serves HTTPS with crypto/tls and demands a certificate: server PORT CA CERTIFICATE KEY.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
)

func main() {
	authorities := x509.NewCertPool()
	pem, err := os.ReadFile(os.Args[2])
	if err != nil || !authorities.AppendCertsFromPEM(pem) {
		panic(err)
	}
	http.HandleFunc("/", func(response http.ResponseWriter, request *http.Request) {
		state := request.TLS
		if request.URL.Path == "/close" {
			response.Header().Set("Connection", "close")
		}
		fmt.Fprint(response, request.Proto, " ", tls.VersionName(state.Version), " ", state.DidResume, " ", state.ServerName)
	})
	server := &http.Server{TLSConfig: &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: authorities}}
	listener, err := net.Listen("tcp", "127.0.0.1:"+os.Args[1])
	if err != nil {
		panic(err)
	}
	fmt.Println("READY")
	panic(server.ServeTLS(listener, os.Args[3], os.Args[4]))
}
