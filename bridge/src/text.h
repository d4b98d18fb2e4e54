/*
 * text.h
 *		Text built up in memory through a stream.
 */
#ifndef BRIDGE_TEXT_H
#define BRIDGE_TEXT_H

#include <stdio.h>

/*
 * text_finish closes a stream of open_memstream() and returns what was written
 * to it, malloc'd; NULL if memory was short.
 */
extern char *text_finish(FILE *stream, char **text);

#endif /* BRIDGE_TEXT_H */
