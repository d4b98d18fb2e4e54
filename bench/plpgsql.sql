-- The baseline: a plpgsql function such as one would write by hand, into tables of its own.
-- It writes the same facts as order_aggregator: order, line, hold, event, stock. Its lines and holds have
-- foreign keys, as one would write them; ours have none.
DROP SCHEMA IF EXISTS bench CASCADE;
CREATE SCHEMA bench;

CREATE TABLE bench.stock (
	product_id text, vendor_id text, price numeric NOT NULL,
	on_hand bigint NOT NULL CHECK (on_hand >= 0), reserved bigint NOT NULL DEFAULT 0 CHECK (reserved >= 0),
	PRIMARY KEY (product_id, vendor_id)
) WITH (fillfactor = 50);
CREATE TABLE bench.orders (
	order_id bigserial PRIMARY KEY, customer_id text, status text NOT NULL, total_amount numeric NOT NULL,
	placed_at timestamptz NOT NULL, expires_at timestamptz NOT NULL
);
CREATE INDEX ON bench.orders (expires_at) WHERE status = 'pending';
CREATE TABLE bench.order_line (
	order_id bigint REFERENCES bench.orders, line_no int, product_id text NOT NULL, quantity bigint NOT NULL,
	PRIMARY KEY (order_id, line_no)
);
CREATE TABLE bench.hold (
	order_id bigint, line_no int, vendor_id text, quantity bigint NOT NULL, unit_price numeric NOT NULL, status text NOT NULL,
	PRIMARY KEY (order_id, line_no, vendor_id), FOREIGN KEY (order_id, line_no) REFERENCES bench.order_line
);
CREATE TABLE bench.event (
	event_id bigserial PRIMARY KEY, message_id uuid NOT NULL, routing_key text NOT NULL, payload jsonb NOT NULL, created_at timestamptz NOT NULL
);

CREATE FUNCTION bench.place_order(customer text, product text, units bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	offer bench.stock;
	id bigint;
BEGIN
	SELECT * INTO offer FROM bench.stock AS s
	WHERE s.product_id = product AND s.on_hand - s.reserved >= units
	ORDER BY s.price LIMIT 1 FOR UPDATE;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'insufficient stock for %', product;
	END IF;
	UPDATE bench.stock AS s SET reserved = s.reserved + units
	WHERE s.product_id = offer.product_id AND s.vendor_id = offer.vendor_id;
	INSERT INTO bench.orders (customer_id, status, total_amount, placed_at, expires_at)
	VALUES (customer, 'pending', offer.price * units, now(), now() + interval '30 min') RETURNING order_id INTO id;
	INSERT INTO bench.order_line VALUES (id, 1, product, units);
	INSERT INTO bench.hold VALUES (id, 1, offer.vendor_id, units, offer.price, 'open');
	INSERT INTO bench.event (message_id, routing_key, payload, created_at)
	VALUES (gen_random_uuid(), 'order.placed.' || offer.vendor_id,
			jsonb_build_object('orderId', id, 'vendorId', offer.vendor_id, 'attempt', 1, 'customerId', customer, 'placedAt', now(),
							   'expiresAt', now() + interval '30 min', 'lines', jsonb_build_array(jsonb_build_object(
								   'lineNo', 1, 'productId', product, 'vendorSku', product, 'quantity', units, 'unitPrice', offer.price::text))), now());
	RETURN id;
END $$;
