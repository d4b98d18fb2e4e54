/*
 * broker_url.c
 *		A broker's URL, as people write them.
 */
#include "link/broker_url.h"

#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

#define HEARTBEAT_S        10
#define CONNECT_TIMEOUT_MS 5000
#define NUMBER_MAX         60000

void
amqp_url_free(BrokerUrl *url)
{
	free(url->host);
	free(url->user);
	free(url->password);
	free(url->vhost);
	*url = (BrokerUrl){0};
}

/* A part of the URL, decoded and malloc'd; the default if it is not there; NULL if memory is short
 * or it has a NUL. */
static char *
url_part(CURLU *parts, CURLUPart part, const char *otherwise)
{
	char *value = NULL;
	char *copy;

	switch (curl_url_get(parts, part, &value, CURLU_URLDECODE))
	{
		case CURLUE_OK:
			copy = strdup(value);
			break;
		case CURLUE_NO_USER:
		case CURLUE_NO_PASSWORD:
		case CURLUE_NO_PORT:
		case CURLUE_NO_QUERY:
			copy = strdup(otherwise);
			break;
		default:
			copy = NULL;
	}
	curl_free(value);
	return copy;
}

/* Reads "heartbeat=30&..."; what is wrong with it, or NULL. */
static const char *
read_url_options(BrokerUrl *url, char *query)
{
	for (char *option; (option = strsep(&query, "&")) != NULL;)
	{
		char     *value = strchr(option, '=');
		long long number;

		if (*option == '\0')
			continue;
		if (value != NULL)
			*value++ = '\0';
		if (value == NULL || !text_read_number(value, 0, NUMBER_MAX, &number))
			return "must have whole numbers from 0 to 60000 for its options";
		if (strcmp(option, "heartbeat") == 0)
			url->heartbeat_s = (int) number;
		else if (strcmp(option, "connection_timeout") == 0)
		{
			url->connect_timeout_ms = number > 0 ? (int) number : CONNECT_TIMEOUT_MS;
			url->has_connect_timeout = number > 0;
		}
		else
			return "has an option that is not known; there are heartbeat and connection_timeout";
	}
	return NULL;
}

static const char *
read_url_parts(BrokerUrl *url, CURLU *parts)
{
	char       *scheme = url_part(parts, CURLUPART_SCHEME, "");
	char       *port = url_part(parts, CURLUPART_PORT, "");
	char       *path = url_part(parts, CURLUPART_PATH, "/");
	char       *query = url_part(parts, CURLUPART_QUERY, "");
	size_t      host_bytes;
	const char *wrong = NULL;

	url->host = url_part(parts, CURLUPART_HOST, "");
	url->user = url_part(parts, CURLUPART_USER, "guest");
	url->password = url_part(parts, CURLUPART_PASSWORD, "guest");
	url->heartbeat_s = HEARTBEAT_S;
	url->connect_timeout_ms = CONNECT_TIMEOUT_MS;
	url->vhost = path != NULL ? strdup(path[0] == '/' && path[1] != '\0' ? path + 1 : "/") : NULL;
	if (scheme == NULL || port == NULL || query == NULL || url->host == NULL || url->user == NULL ||
		url->password == NULL || url->vhost == NULL)
		wrong = "has a part that cannot be read";
	else if (strcmp(scheme, "amqp") != 0 && strcmp(scheme, "amqps") != 0)
		wrong = "must begin with amqp:// or amqps://";
	else if (*url->host == '\0')
		wrong = "must name a host";
	else
		wrong = read_url_options(url, query);
	if (wrong == NULL)
	{
		url->is_tls = strcmp(scheme, "amqps") == 0;
		url->port = *port != '\0' ? atoi(port) : url->is_tls ? 5671 : 5672;
		host_bytes = strlen(url->host);
		if (url->host[0] == '[' && url->host[host_bytes - 1] == ']')
		{
			memmove(url->host, url->host + 1, host_bytes - 2);
			url->host[host_bytes - 2] = '\0';
		}
	}
	free(scheme);
	free(port);
	free(path);
	free(query);
	return wrong;
}

/* True if each percent sign begins a code. */
static bool
is_percent_encoded(const char *text)
{
	for (; (text = strchr(text, '%')) != NULL; text++)
	{
		if (strspn(text + 1, "0123456789abcdefABCDEF") < 2)
			return false;
	}
	return true;
}

const char *
amqp_url_parse(BrokerUrl *url, const char *text)
{
	CURLU      *parts = curl_url();
	const char *wrong = NULL;

	*url = (BrokerUrl){0};
	if (parts == NULL)
		wrong = "cannot be read: out of memory";
	else if (!is_percent_encoded(text))
		wrong = "has a percent sign that begins no code; in a password it is %25";
	else if (strstr(text, ":///") != NULL)
		wrong = "must name a host";
	else if (strchr(text, '#') != NULL)
		wrong = "has a # in it; in a password it is %23";
	else if (curl_url_set(parts, CURLUPART_URL, text, CURLU_NON_SUPPORT_SCHEME) != CURLUE_OK)
		wrong = "is not of the form amqp://user:password@host:port/vhost; in a password / is %2F, "
				"@ is %40 and : is %3A";
	else
		wrong = read_url_parts(url, parts);
	curl_url_cleanup(parts);
	if (wrong != NULL)
		amqp_url_free(url);
	return wrong;
}
