"""TLS as far as it is read without decrypting it: the ClientHello."""
