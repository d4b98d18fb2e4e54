/*
 * tls_files.h
 *		The files by which a broker and we know each other, and their settings.
 */
#ifndef BRIDGE_TLS_FILES_H
#define BRIDGE_TLS_FILES_H

#include "base/settings.h"

typedef struct TlsFiles
{
	const char *ca_file;   /* whom we trust; "": whom the system trusts */
	const char *cert_file; /* ours; "": none */
	const char *key_file;
} TlsFiles;

/* Rows of a program's table of settings, with a comma between them. */
#define AMQP_TLS_SETTINGS(files)                                                                   \
	{"AMQP_CA_FILE",                                                                               \
	 "amqp-ca-file",                                                                               \
	 SETTING_TEXT,                                                                                 \
	 &(files).ca_file,                                                                             \
	 "",                                                                                           \
	 0,                                                                                            \
	 0,                                                                                            \
	 "certificates to trust for amqps://, in place of the system's"},                              \
		{"AMQP_CERT_FILE",                                                                         \
		 "amqp-cert-file",                                                                         \
		 SETTING_TEXT,                                                                             \
		 &(files).cert_file,                                                                       \
		 "",                                                                                       \
		 0,                                                                                        \
		 0,                                                                                        \
		 "our certificate for amqps://, if the broker wants one"},                                 \
	{                                                                                              \
		"AMQP_KEY_FILE", "amqp-key-file", SETTING_TEXT, &(files).key_file, "", 0, 0, "and its key" \
	}

#endif /* BRIDGE_TLS_FILES_H */
