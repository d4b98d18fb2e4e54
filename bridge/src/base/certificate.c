/*
 * certificate.c
 *		How long a certificate is still good.
 */
#include "base/certificate.h"

#include <gnutls/gnutls.h>
#include <gnutls/x509.h>

const char *
certificate_read(const char *path, time_t *begins_at, time_t *ends_at)
{
	gnutls_datum_t     pem = {NULL, 0};
	gnutls_x509_crt_t *certificates = NULL;
	unsigned           count = 0;
	int                error = gnutls_load_file(path, &pem);

	if (error == 0)
		error = gnutls_x509_crt_list_import2(&certificates, &count, &pem, GNUTLS_X509_FMT_PEM, 0);
	gnutls_free(pem.data);
	if (error < 0)
		return gnutls_strerror(error);
	for (unsigned i = 0; i < count; i++)
	{
		time_t end = gnutls_x509_crt_get_expiration_time(certificates[i]);

		if (i == 0 || end < *ends_at)
		{
			*begins_at = gnutls_x509_crt_get_activation_time(certificates[i]);
			*ends_at = end;
		}
		gnutls_x509_crt_deinit(certificates[i]);
	}
	gnutls_free(certificates);
	return count > 0 ? NULL : "there is no certificate in it";
}
