/*
 * backoff.c
 *		How long to wait before trying again.
 */
#include "base/backoff.h"

#include <stdlib.h>

int
backoff_next(Backoff *backoff)
{
	long ceiling = backoff->delay_ms_min;

	for (int i = 0; i < backoff->attempt && ceiling < backoff->delay_ms_max; i++)
		ceiling *= 2;
	if (ceiling > backoff->delay_ms_max)
		ceiling = backoff->delay_ms_max;
	backoff->attempt++;
	return (int) (ceiling / 2 + random() % (ceiling - ceiling / 2 + 1));
}

void
backoff_reset(Backoff *backoff)
{
	backoff->attempt = 0;
}
