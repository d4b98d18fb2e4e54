/*
 * certificate.h
 *		How long a certificate is still good.
 */
#ifndef BRIDGE_CERTIFICATE_H
#define BRIDGE_CERTIFICATE_H

#include <stdbool.h>
#include <time.h>

/*
 * certificate_read gives the life of that one of a file's certificates (PEM) which ends first, and
 * returns NULL; or what is wrong with the file, in words that last until the next call.
 */
extern const char *certificate_read(const char *path, time_t *begins_at, time_t *ends_at);

#endif /* BRIDGE_CERTIFICATE_H */
