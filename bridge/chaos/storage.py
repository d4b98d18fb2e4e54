"""What a database has on its disk is whole: each row can be read, and is in each index once, in order."""

import psycopg

TABLES = "SELECT oid FROM pg_class WHERE relnamespace = 'order_aggregator'::regnamespace AND relkind = 'r'"
# what is wrong with an index is an error, with a table a row
CHECKS = [("SELECT FROM bt_index_check(%s::regclass, true)",
           f"""SELECT i.indexrelid::regclass::text FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid JOIN pg_am AS a ON a.oid = c.relam
               WHERE i.indrelid IN ({TABLES}) AND a.amname = 'btree' AND i.indisvalid"""),
          ("SELECT * FROM verify_heapam(%s::regclass)", f"SELECT t.oid::regclass::text FROM ({TABLES}) AS t")]


def damages(db):
    """What amcheck, which must be there, finds in our tables and their indexes."""
    found = []
    for check, names in CHECKS:
        for name, in db.execute(names).fetchall():
            try:
                found += [f"{name}: {row}" for row in db.execute(check, [name]).fetchall() if row]
            except psycopg.Error as error:
                found.append(f"{name}: {error}")
    return found
