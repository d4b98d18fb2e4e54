/*
 * server_tls.h
 *		The server's certificate and key, which may be exchanged while it runs.
 */
#ifndef SERVER_TLS_H
#define SERVER_TLS_H

#include <gnutls/abstract.h>
#include <stdbool.h>

/*
 * server_tls_load reads certificate (with those of its issuers) and key, both PEM, for all
 * connections that begin from then on. False, and a line in the log, if they cannot be read or do
 * not belong together: then what there was stays.
 */
extern bool server_tls_load(const char *certificate_file, const char *key_file);

/* server_tls_retrieve is GnuTLS's callback of each handshake: a
 * gnutls_certificate_retrieve_function3. */
extern int server_tls_retrieve(gnutls_session_t session, const struct gnutls_cert_retr_st *info,
							   gnutls_pcert_st **certificates, unsigned *count,
							   gnutls_ocsp_data_st **ocsp, unsigned *ocsp_count,
							   gnutls_privkey_t *key, unsigned *flags);

#endif /* SERVER_TLS_H */
