
/* what was here before this script */

-- Who owns the schema can drop it, and who owns something in it can have that taken for what this
-- script means by the same name: nothing here is looked up by its path. A table cannot be: the
-- script uses those that it has made.
DO $$
DECLARE
	stranger text;
BEGIN
	SELECT pg_catalog.pg_describe_object(o.classid, o.objid, 0) INTO stranger
	FROM (SELECT n.tableoid AS classid, n.oid AS objid
		FROM pg_catalog.pg_namespace AS n
		WHERE n.nspname OPERATOR(pg_catalog.=) 'order_aggregator'
		UNION ALL
		SELECT d.classid, d.objid
		FROM pg_catalog.pg_namespace AS n JOIN pg_catalog.pg_depend AS d
			ON d.refclassid OPERATOR(pg_catalog.=) n.tableoid
				AND d.refobjid OPERATOR(pg_catalog.=) n.oid
		WHERE n.nspname OPERATOR(pg_catalog.=) 'order_aggregator'
			AND d.classid OPERATOR(pg_catalog.<>) 'pg_catalog.pg_class'::pg_catalog.regclass) AS o
	-- owners; of the cluster's first superuser nothing is written
	JOIN pg_catalog.pg_shdepend AS s ON s.classid OPERATOR(pg_catalog.=) o.classid
		AND s.objid OPERATOR(pg_catalog.=) o.objid AND s.deptype OPERATOR(pg_catalog.=) 'o'
	JOIN pg_catalog.pg_database AS b ON b.oid OPERATOR(pg_catalog.=) s.dbid
		AND b.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()
	JOIN pg_catalog.pg_roles AS r ON r.oid OPERATOR(pg_catalog.=) s.refobjid AND NOT r.rolsuper
	JOIN pg_catalog.pg_extension AS e ON e.extname OPERATOR(pg_catalog.=) 'order_aggregator'
		AND e.extowner OPERATOR(pg_catalog.<>) r.oid
	WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS d
		WHERE d.classid OPERATOR(pg_catalog.=) o.classid AND d.objid OPERATOR(pg_catalog.=) o.objid
			AND d.refclassid OPERATOR(pg_catalog.=) e.tableoid
			AND d.refobjid OPERATOR(pg_catalog.=) e.oid AND d.deptype OPERATOR(pg_catalog.=) 'e')
	LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION '% belongs to a role that is no superuser', stranger
			USING ERRCODE = 'object_not_in_prerequisite_state',
				DETAIL = 'What is in the schema of an extension is used by its scripts, which '
					'run as a superuser.',
				HINT = 'Look who made it. Give it to a superuser (ALTER ... OWNER TO), move it '
					'into another schema, or drop it.';
	END IF;
END
$$;

-- for grants.sql, which drops both: what is ours, and what was before
CREATE TEMP VIEW ours AS
SELECT d.classid, d.objid
FROM pg_catalog.pg_depend AS d JOIN pg_catalog.pg_extension AS e
	ON d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass
		AND d.refobjid OPERATOR(pg_catalog.=) e.oid
WHERE e.extname OPERATOR(pg_catalog.=) 'order_aggregator' AND d.deptype OPERATOR(pg_catalog.=) 'e'
UNION ALL
SELECT 'pg_catalog.pg_namespace'::pg_catalog.regclass, n.oid
FROM pg_catalog.pg_namespace AS n
WHERE n.nspname OPERATOR(pg_catalog.=) 'order_aggregator';
CREATE TEMP TABLE ours_before AS SELECT o.classid, o.objid FROM pg_temp.ours AS o;
