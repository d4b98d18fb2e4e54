/*
 * event_page.h
 *		Events one after the other, as a text that any number of listeners is sent.
 */
#ifndef BRIDGE_EVENT_PAGE_H
#define BRIDGE_EVENT_PAGE_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>

#include "http/server.h"

typedef struct PagedEvent
{
	int64_t id;
	size_t  start; /* in the text */
} PagedEvent;

typedef struct EventPage
{
	HttpText   *text;
	int         count;
	PagedEvent *events;
} EventPage;

/* event_page_make makes one of the rows of SQL_SETTLED_EVENTS; false if memory is short. To be
 * freed in either case. */
extern bool event_page_make(EventPage *page, const PGresult *rows)
	__attribute__((warn_unused_result));
extern void event_page_free(EventPage *page);

#endif /* BRIDGE_EVENT_PAGE_H */
