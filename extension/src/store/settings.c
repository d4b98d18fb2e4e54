/*
 * settings.c
 *		The settings, order_aggregator.*: names, defaults, limits.
 */
#include "postgres.h"

#include "store/settings.h"

#include <limits.h>

#include "store/offers.h"
#include "utils/guc.h"

int   guc_hold_for_s = 1800;
int   guc_hold_for_max_s = 7 * 86400;
int   guc_strategy = SOURCING_CHEAPEST;
int   guc_max_lines = 1000;
int   guc_max_attempts = 3;
int   guc_expiry_grace_s = 300;
int   guc_max_vendors_per_order = 0;
int   guc_low_stock = -1;
bool  guc_sell_unpriced = true;
char *guc_traceparent = NULL;

static const struct config_enum_entry strategy_options[] = {
	{"cheapest", SOURCING_CHEAPEST, false},
	{"single_vendor", SOURCING_SINGLE_VENDOR, false},
	{"priority", SOURCING_PRIORITY, false},
	{"most_stock", SOURCING_MOST_STOCK, false},
	{"fewest_vendors", SOURCING_FEWEST_VENDORS, false},
	{NULL, 0, false}};

void
settings_define(void)
{
	DefineCustomIntVariable(
		"order_aggregator.hold_for",
		"How long a placed order holds its stock, unless the order says otherwise.", NULL,
		&guc_hold_for_s, 1800, 1, INT_MAX / 1000, PGC_USERSET, GUC_UNIT_S, NULL, NULL, NULL);
	/* SUSET: what bounds everybody, or decides of others' orders, is not for everybody to change */
	DefineCustomIntVariable("order_aggregator.hold_for_max",
							"The longest that an order may hold its stock, whatever it says.", NULL,
							&guc_hold_for_max_s, 7 * 86400, 1, 366 * 86400, PGC_SUSET, GUC_UNIT_S,
							NULL, NULL, NULL);
	DefineCustomEnumVariable(
		"order_aggregator.strategy", "How vendors are chosen, unless the order says otherwise.",
		NULL, &guc_strategy, SOURCING_CHEAPEST, strategy_options, PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("order_aggregator.max_lines", "Most lines an order may have.", NULL,
							&guc_max_lines, 1000, 1, 1000, PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("order_aggregator.max_attempts",
							"How often an order is sourced, the first time included, before a "
							"vendor's rejection rejects it.",
							NULL, &guc_max_attempts, 3, 1, ATTEMPTS_MAX, PGC_SUSET, 0, NULL, NULL,
							NULL);
	DefineCustomIntVariable(
		"order_aggregator.expiry_grace",
		"How long after its expiry a pending order is a problem to check_consistency().", NULL,
		&guc_expiry_grace_s, 300, 0, INT_MAX / 1000, PGC_USERSET, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("order_aggregator.max_vendors_per_order",
							"Most vendors that one order may be split over; 0: any number.", NULL,
							&guc_max_vendors_per_order, 0, 0, VENDORS_MAX, PGC_SUSET, 0, NULL, NULL,
							NULL);
	DefineCustomIntVariable("order_aggregator.low_stock",
							"A stock.low event is written when a product's available units fall to "
							"this; -1: never. A product's "
							"own threshold goes before.",
							NULL, &guc_low_stock, -1, -1, INT_MAX, PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("order_aggregator.sell_unpriced",
							 "Whether offers whose price nobody has told are sold, for 0, after "
							 "all that have one.",
							 NULL, &guc_sell_unpriced, true, PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomStringVariable(
		"order_aggregator.traceparent",
		"W3C trace context of the caller, carried into the events of its orders.", NULL,
		&guc_traceparent, "", PGC_USERSET, 0, NULL, NULL, NULL);
	MarkGUCPrefixReserved("order_aggregator");
}
