/* order_aggregator 1.0 to 1.1, put together by make of the files in extension/sql */

-- complain if script is sourced in psql, rather than via ALTER EXTENSION
\echo Use "ALTER EXTENSION order_aggregator UPDATE TO '1.1'" to load this file. \quit


DO $$
BEGIN
	IF pg_catalog.getdatabaseencoding() OPERATOR(pg_catalog.<>) 'UTF8' THEN
		RAISE WARNING
			'order_aggregator needs a database in UTF8, not %: some names cannot be stored',
			pg_catalog.getdatabaseencoding()
			USING HINT = 'No dump of it can be restored by pg_restore -C. Restore into a database '
				'that was made with ENCODING ''UTF8'' TEMPLATE template0.';
	END IF;
END
$$;
