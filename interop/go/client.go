// client requests a URL over HTTPS with crypto/tls: client URL CA MODE [CERTIFICATE KEY].
//
// MODE is 1.2 or 1.3 (twice, on new connections: the second one resumes), or h2 (offers h2 and http/1.1).
package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
)

func main() {
	authorities := x509.NewCertPool()
	pem, err := os.ReadFile(os.Args[2])
	if err != nil || !authorities.AppendCertsFromPEM(pem) {
		panic(err)
	}
	settings := &tls.Config{RootCAs: authorities, ClientSessionCache: tls.NewLRUClientSessionCache(4)}
	versions := map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}
	if version, ok := versions[os.Args[3]]; ok {
		settings.MinVersion, settings.MaxVersion = version, version
	}
	if len(os.Args) > 4 {
		own, err := tls.LoadX509KeyPair(os.Args[4], os.Args[5])
		if err != nil {
			panic(err)
		}
		// Sent whatever CAs the server names.
		settings.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &own, nil }
	}
	for range 2 {
		transport := &http.Transport{TLSClientConfig: settings, ForceAttemptHTTP2: os.Args[3] == "h2"}
		response, err := (&http.Client{Transport: transport}).Get(os.Args[1])
		if err != nil {
			fmt.Println("FAILED", err)
			continue
		}
		body, _ := io.ReadAll(response.Body)
		state := response.TLS
		fmt.Println("GOT", response.StatusCode, response.Proto, tls.VersionName(state.Version), state.DidResume, string(body))
		transport.CloseIdleConnections()
	}
}
