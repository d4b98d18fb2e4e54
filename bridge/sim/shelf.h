/*
 * shelf.h
 *		What the simulated vendors have on their shelves. Safe from any thread.
 */
#ifndef BRIDGE_SHELF_H
#define BRIDGE_SHELF_H

#include <jansson.h>
#include <stdbool.h>

/* shelf_init puts the sample products on the shelves of vendor-a and vendor-b. */
extern void shelf_init(void);

/* shelf_vendor returns the vendor's id for "vendor-a", "vendorA" or "A"; NULL if there is none. */
extern const char *shelf_vendor(const char *name);

/* New references: the vendors, and a vendor's stock in the feeds' two shapes. */
extern json_t *shelf_vendors(void);
extern json_t *shelf_feed(const char *vendor_id);  /* [{"id","name","quantity","price"}] */
extern json_t *shelf_stock(const char *vendor_id); /* [{"productId","stock"}] */

/* shelf_set sets one product's count, putting it on the shelf if it is new. */
extern void shelf_set(const char *vendor_id, const char *product_id, json_int_t stock);

/*
 * shelf_take takes the lines of an order.placed event, [{"vendorSku","quantity"}].
 * With "strict" it takes nothing and returns false if one is short; otherwise
 * a short one is emptied.
 */
extern bool shelf_take(const char *vendor_id, const json_t *lines, bool strict);

#endif /* BRIDGE_SHELF_H */
