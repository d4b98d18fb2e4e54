/*
 * text.c
 *		Text built up in memory through a stream.
 */
#include "text.h"

#include <stdlib.h>

char *
text_finish(FILE *stream, char **text)
{
	if (fclose(stream) == 0)
		return *text;
	free(*text);
	return NULL;
}
