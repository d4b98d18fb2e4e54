/*
 * server_tls.c
 *		The server's certificate and key, which may be exchanged while it runs.
 *
 * A handshake under way keeps what it began with: each gets copies of its own.
 */
#include "http/server_tls.h"

#include <gnutls/gnutls.h>
#include <pthread.h>

#include "base/log.h"
#include "base/secret_file.h"

#define CHAIN_MAX 16 /* certificates */

typedef struct Identity
{
	gnutls_datum_t certificates;
	gnutls_datum_t key;
} Identity;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static Identity        identity;

static void
identity_free(Identity *which)
{
	gnutls_free(which->certificates.data);
	if (which->key.data != NULL)
		gnutls_memset(which->key.data, 0, which->key.size);
	gnutls_free(which->key.data);
}

/* Do they belong together? */
static int
check(const Identity *which)
{
	gnutls_certificate_credentials_t credentials;
	int                              error = gnutls_certificate_allocate_credentials(&credentials);

	if (error < 0)
		return error;
	error = gnutls_certificate_set_x509_key_mem(credentials, &which->certificates, &which->key,
												GNUTLS_X509_FMT_PEM);
	gnutls_certificate_free_credentials(credentials);
	return error;
}

static int
read_files(Identity *read, const char *certificate_file, const char *key_file)
{
	FILE *key = secret_file_open("HTTP_TLS_KEY_FILE", key_file);
	int   error;

	if (key == NULL)
		return GNUTLS_E_FILE_ERROR;
	fclose(key);
	error = gnutls_load_file(certificate_file, &read->certificates);
	if (error == 0)
		error = gnutls_load_file(key_file, &read->key);
	return error == 0 ? check(read) : error;
}

bool
server_tls_load(const char *certificate_file, const char *key_file)
{
	Identity read = {{NULL, 0}, {NULL, 0}};
	Identity old;
	int      error = read_files(&read, certificate_file, key_file);

	if (error < 0)
	{
		log_error("HTTP_TLS_CERT_FILE %s, HTTP_TLS_KEY_FILE %s: %s", certificate_file, key_file,
				  gnutls_strerror(error));
		identity_free(&read);
		return false;
	}
	pthread_mutex_lock(&mutex);
	old = identity;
	identity = read;
	pthread_mutex_unlock(&mutex);
	identity_free(&old);
	return true;
}

/* Copies for one handshake, which GnuTLS frees. */
static int
copy_identity(gnutls_pcert_st **certificates, unsigned *count, gnutls_privkey_t *key)
{
	int error = gnutls_privkey_init(key);

	if (error < 0)
		return error;
	*count = CHAIN_MAX;
	*certificates = gnutls_calloc(CHAIN_MAX, sizeof(gnutls_pcert_st));
	if (*certificates == NULL)
		error = GNUTLS_E_MEMORY_ERROR;
	if (error == 0)
		error = gnutls_privkey_import_x509_raw(*key, &identity.key, GNUTLS_X509_FMT_PEM, NULL, 0);
	if (error == 0)
		error = gnutls_pcert_list_import_x509_raw(*certificates, count, &identity.certificates,
												  GNUTLS_X509_FMT_PEM, 0);
	if (error == 0)
		return 0;
	gnutls_free(*certificates);
	gnutls_privkey_deinit(*key);
	return error;
}

int
server_tls_retrieve(gnutls_session_t session, const struct gnutls_cert_retr_st *info,
					gnutls_pcert_st **certificates, unsigned *count, gnutls_ocsp_data_st **ocsp,
					unsigned *ocsp_count, gnutls_privkey_t *key, unsigned *flags)
{
	int error;

	(void) session;
	(void) info;
	*ocsp = NULL;
	*ocsp_count = 0;
	*flags = GNUTLS_CERT_RETR_DEINIT_ALL;
	pthread_mutex_lock(&mutex);
	error = copy_identity(certificates, count, key);
	pthread_mutex_unlock(&mutex);
	return error < 0 ? -1 : 0;
}
