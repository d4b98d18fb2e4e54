/*
 * search_path.h
 *		A caller's search_path, kept out of what we run for it with our rights.
 *
 * A SET on the function would do, but costs a twelfth of a small order, and such an order runs no
 * SQL at all. So it is done where somebody's text may be looked up by name: around SQL, whose own
 * names are qualified but whose triggers are not ours to know, and around indexes with expressions.
 */
#ifndef OA_SEARCH_PATH_H
#define OA_SEARCH_PATH_H

/* search_path_hide sets it to what our functions have; search_path_show gives it back. An error in
 * between does too. */
extern int  search_path_hide(void);
extern void search_path_show(int nest_level);

#endif /* OA_SEARCH_PATH_H */
