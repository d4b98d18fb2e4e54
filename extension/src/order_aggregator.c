/*
 * order_aggregator.c
 *		Module start.
 */
#include "postgres.h"

#include "fmgr.h"
#include "store/settings.h"

PG_MODULE_MAGIC;

void _PG_init(void);

void
_PG_init(void)
{
	settings_define();
}
