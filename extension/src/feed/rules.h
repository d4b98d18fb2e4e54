/*
 * rules.h
 *		What was done with an item of a feed that is not plainly right: named, and in words.
 *
 * The history counts them by name (feed_sync.rules) and tells of the first ones one by one.
 * Pure C, without the server's headers: the bridge, which takes feeds apart, names them too.
 */
#ifndef OA_RULES_H
#define OA_RULES_H

/* X(id, name, words); one without words is counted only. The first FEED_RULE_REFUSALS:
 * the item says nothing of
 * what there is. */
#define FEED_RULES(X)                                                                              \
	X(NOT_AN_OBJECT, not_an_object, "must be an object")                                           \
	X(ID_MISSING, id_missing, "id (or productId) is missing")                                      \
	X(ID_UNREADABLE, id_unreadable,                                                                \
	  "id must be a string of 1 to 128 characters, none of them a control character")              \
	X(ID_ROUNDED, id_rounded, "id was rounded by whoever wrote it: nobody knows which it was")     \
	X(COLUMNS_SHIFTED, columns_shifted,                                                            \
	  "the row has more values than there are columns: nothing of it is sold")                     \
	X(QUANTITY_MISSING, quantity_missing, "quantity (or stock) is missing: nothing of it is sold") \
	X(QUANTITY_UNREADABLE, quantity_unreadable,                                                    \
	  "quantity must be a whole number up to 1000000000000: nothing of it is sold")                \
	X(QUANTITY_AMBIGUOUS, quantity_ambiguous,                                                      \
	  "quantity is ambiguous without feed_mapping.decimal: nothing of it is sold")                 \
	X(PRODUCT_MAPPED, product_mapped, "the product is mapped from another SKU")                    \
	X(SKU_WAITS, sku_waits,                                                                        \
	  "the product's former SKU is another product's, and units of it are held, or not counted "   \
	  "yet")                                                                                       \
	X(QUANTITY_NEGATIVE, quantity_negative, "quantity is negative: taken as 0")                    \
	X(PRICE_UNREADABLE, price_unreadable,                                                          \
	  "price must be a number from 0 to below 10^11: left as it was")                              \
	X(PRICE_AMBIGUOUS, price_ambiguous,                                                            \
	  "price is ambiguous without feed_mapping.decimal: left as it was")                           \
	X(PRICE_ROUNDED, price_rounded, NULL)                                                          \
	X(OFFER_NOT_BEGUN, offer_not_begun, NULL)                                                      \
	X(NAME_CLEANED, name_cleaned, NULL)                                                            \
	X(NAME_UNREADABLE, name_unreadable, NULL)                                                      \
	X(REPEATED_FIRST, repeated_first, "the id is in the feed already: its first row counts")       \
	X(REPEATED_LAST, repeated_last, "the id is in the feed again: its last row counts")            \
	X(REPEATED_SUM, repeated_sum, NULL)

#define FEED_RULE_ENUM(id, name, words) RULE_##id,

typedef enum FeedRule
{
	FEED_RULES(FEED_RULE_ENUM) RULE_COUNT
} FeedRule;

#undef FEED_RULE_ENUM

#define FEED_RULE_REFUSALS (RULE_QUANTITY_AMBIGUOUS + 1)

#endif /* OA_RULES_H */
