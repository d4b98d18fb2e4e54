/*
 * certificate.h
 *		How long a certificate is still good.
 */
#ifndef BRIDGE_CERTIFICATE_H
#define BRIDGE_CERTIFICATE_H

#include <stdbool.h>
#include <time.h>

/*
 * certificate_ends_at gives when the first of a file's certificates (PEM) to end does so, and
 * returns NULL; or what is wrong with the file, in words that last until the next call.
 */
extern const char *certificate_ends_at(const char *path, time_t *ends_at);

#endif /* BRIDGE_CERTIFICATE_H */
