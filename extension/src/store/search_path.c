/*
 * search_path.c
 *		A caller's search_path, kept out of what we run for it with our rights.
 */
#include "postgres.h"

#include "store/search_path.h"

#include "catalog/namespace.h"
#include "utils/guc.h"

#define OUR_SEARCH_PATH "pg_catalog, pg_temp"

int
search_path_hide(void)
{
	int nest_level;

	if (strcmp(namespace_search_path, OUR_SEARCH_PATH) == 0)
		return 0;
	nest_level = NewGUCNestLevel();
	(void) set_config_option("search_path", OUR_SEARCH_PATH, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	return nest_level;
}

void
search_path_show(int nest_level)
{
	if (nest_level > 0)
		AtEOXact_GUC(true, nest_level);
}
