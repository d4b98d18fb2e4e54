/*
 * shelf.c
 *		What the simulated vendors have on their shelves.
 */
#include "shelf.h"

#include <assert.h>
#include <pthread.h>
#include <string.h>

typedef struct Sample
{
	const char *vendor_id;
	const char *product_id;
	const char *name;
	int         quantity;
	double      price;
} Sample;

static const Sample samples[] = {
	{"vendor-a", "product-1", "Laptop", 50, 1299.99},
	{"vendor-a", "product-2", "Phone", 200, 599.00},
	{"vendor-a", "product-3", "Headphones", 120, 89.90},
	{"vendor-a", "product-4", "Keyboard", 75, 49.50},
	{"vendor-a", "product-5", "Monitor", 60, 219.00},
	{"vendor-b", "product-1", "Laptop", 30, 1319.00},
	{"vendor-b", "product-3", "Headphones", 40, 84.50},
	{"vendor-b", "product-5", "Monitor", 25, 209.99},
	{"vendor-b", "product-6", "Webcam", 80, 39.00},
	{"vendor-b", "product-7", "USB hub", 500, 12.25},
};

static const struct
{
	const char *id;
	const char *path_name; /* in /vendorA/stock */
	const char *letter;
	const char *name;
} vendors[] = {
	{"vendor-a", "vendorA", "A", "Vendor A"},
	{"vendor-b", "vendorB", "B", "Vendor B"},
};

#define VENDOR_COUNT (sizeof(vendors) / sizeof(vendors[0]))

/* {"vendor-a": {"product-1": {"id","name","quantity","price"}}} */
static json_t         *shelves;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

void
shelf_init(void)
{
	shelves = json_object();
	for (size_t i = 0; i < VENDOR_COUNT; i++)
		json_object_set_new(shelves, vendors[i].id, json_object());
	for (size_t i = 0; i < sizeof(samples) / sizeof(samples[0]); i++)
		json_object_set_new(json_object_get(shelves, samples[i].vendor_id), samples[i].product_id,
							json_pack("{s:s, s:s, s:i, s:f}", "id", samples[i].product_id, "name",
									  samples[i].name, "quantity", samples[i].quantity, "price",
									  samples[i].price));
	assert(json_object_size(shelves) == VENDOR_COUNT);
}

const char *
shelf_vendor(const char *name)
{
	for (size_t i = 0; i < VENDOR_COUNT; i++)
	{
		if (strcmp(name, vendors[i].id) == 0 || strcmp(name, vendors[i].path_name) == 0 ||
			strcasecmp(name, vendors[i].letter) == 0)
			return vendors[i].id;
	}
	return NULL;
}

json_t *
shelf_vendors(void)
{
	json_t *list = json_array();

	for (size_t i = 0; i < VENDOR_COUNT; i++)
		json_array_append_new(
			list, json_pack("{s:s, s:s}", "id", vendors[i].id, "name", vendors[i].name));
	return list;
}

json_t *
shelf_feed(const char *vendor_id)
{
	json_t     *feed = json_array();
	const char *product_id;
	json_t     *item;

	pthread_mutex_lock(&mutex);
	json_object_foreach(json_object_get(shelves, vendor_id), product_id, item)
		json_array_append_new(feed, json_deep_copy(item));
	pthread_mutex_unlock(&mutex);
	return feed;
}

json_t *
shelf_stock(const char *vendor_id)
{
	json_t     *stock = json_array();
	const char *product_id;
	json_t     *item;

	pthread_mutex_lock(&mutex);
	json_object_foreach(json_object_get(shelves, vendor_id), product_id, item)
		json_array_append_new(stock, json_pack("{s:s, s:O}", "productId", product_id, "stock",
											   json_object_get(item, "quantity")));
	pthread_mutex_unlock(&mutex);
	return stock;
}

void
shelf_set(const char *vendor_id, const char *product_id, json_int_t stock)
{
	json_t *shelf;
	json_t *item;

	pthread_mutex_lock(&mutex);
	shelf = json_object_get(shelves, vendor_id);
	item = json_object_get(shelf, product_id);
	if (item == NULL)
	{
		item = json_pack("{s:s, s:s, s:I, s:f}", "id", product_id, "name", product_id, "quantity",
						 stock, "price", 1.0);
		json_object_set_new(shelf, product_id, item);
	}
	/* a new number: the old one may be in a feed that is being written */
	json_object_set_new(item, "quantity", json_integer(stock));
	pthread_mutex_unlock(&mutex);
}

bool
shelf_take(const char *vendor_id, const json_t *lines, bool strict)
{
	bool    enough = true;
	size_t  i;
	json_t *line;
	json_t *shelf;

	pthread_mutex_lock(&mutex);
	shelf = json_object_get(shelves, vendor_id);
	for (int pass = 0; pass < 2 && (enough || !strict); pass++)
	{
		json_array_foreach(lines, i, line)
		{
			json_t *item =
				json_object_get(shelf, json_string_value(json_object_get(line, "vendorSku")));
			json_int_t wanted = json_integer_value(json_object_get(line, "quantity"));
			json_int_t left = json_integer_value(json_object_get(item, "quantity"));

			if (pass == 0)
				enough &= item != NULL && left >= wanted;
			else if (item != NULL)
				json_object_set_new(item, "quantity",
									json_integer(left > wanted ? left - wanted : 0));
		}
	}
	pthread_mutex_unlock(&mutex);
	return enough || !strict;
}
