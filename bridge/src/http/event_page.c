/*
 * event_page.c
 *		Events as GET /events sends them.
 *
 * (The format: https://html.spec.whatwg.org/multipage/server-sent-events.html)
 */
#include "http/event_page.h"

#include <stdlib.h>
#include <string.h>

#include "base/text.h"

/* JSON has line breaks between its words only, and the stream has none in a line. */
static void
add_event(Text *text, const char *event_id, const char *routing_key, const char *payload)
{
	text_add_format(text, "id: %s\nevent: %s\ndata: ", event_id, routing_key);
	while (*payload != '\0')
	{
		size_t bytes = strcspn(payload, "\r\n");

		text_add(text, payload, bytes);
		payload += bytes;
		if (*payload == '\0')
			break;
		text_add_char(text, ' ');
		payload++;
	}
	text_add_string(text, "\n\n");
}

void
event_page_free(EventPage *page)
{
	http_text_release(page->text);
	free(page->events);
}

bool
event_page_make(EventPage *page, const PGresult *rows)
{
	Text  text = {0};
	char *whole;

	*page = (EventPage){.count = PQntuples(rows)};
	page->events = calloc((size_t) page->count + 1, sizeof(PagedEvent));
	if (page->events == NULL)
		return false;
	for (int i = 0; i < page->count; i++)
	{
		page->events[i] = (PagedEvent){strtoll(PQgetvalue(rows, i, 0), NULL, 10), text.length};
		add_event(&text, PQgetvalue(rows, i, 0), PQgetvalue(rows, i, 1), PQgetvalue(rows, i, 2));
	}
	whole = text_finish(&text);
	page->text = whole != NULL ? http_text_create(whole) : NULL;
	free(whole);
	return page->text != NULL;
}
