// A competent Node service for bench-http and bench-reads: Fastify, schema-checked bodies, a pg pool of 16 with prepared statements,
// one call of a plpgsql function that writes the same facts (bench/plpgsql.sql).
import Fastify from 'fastify'
import pg from 'pg'

const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 16 })
const app = Fastify({ logger: false })

const schema = {
  body: {
    type: 'object',
    required: ['productId', 'quantity'],
    properties: { customerId: { type: 'string' }, productId: { type: 'string' }, quantity: { type: 'integer', minimum: 1 } }
  },
  response: { 201: { type: 'object', properties: { message: { type: 'string' }, orderId: { type: 'string' } } } }
}

app.post('/order', { schema }, async (request, reply) => {
  const { customerId, productId, quantity } = request.body
  const { rows } = await pool.query({
    name: 'place',
    text: 'SELECT bench.place_order($1, $2, $3) AS id',
    values: [customerId ?? null, productId, quantity]
  })
  if (rows[0].id === null) return reply.code(409).send({ message: 'Insufficient stock' })
  return reply.code(201).header('Location', `/order/${rows[0].id}`).send({ message: 'Order placed', orderId: rows[0].id })
})

// for bench-reads: what the views of the extension show, as one would write it by hand; ?by=function: by the functions that the
// bridge calls, one order or product a query
const reads = {
  order: {
    view: `SELECT json_build_object('id', order_id, 'status', status, 'totalAmount', total_amount::text, 'customerId', customer_id,
             'placedAt', placed_at, 'expiresAt', expires_at, 'closedAt', closed_at, 'reason', close_reason, 'lines', lines, 'holds', holds,
             'returns', returns, 'history', history)::text AS document
           FROM order_aggregator.order_summary WHERE order_id = $1`,
    function: 'SELECT document::text FROM order_aggregator.order_documents(ARRAY[$1::bigint])'
  },
  products: {
    view: `SELECT json_build_object('id', p.product_id, 'name', p.product_name, 'available', p.available, 'onHand', p.on_hand,
             'reserved', p.reserved, 'lowestPrice', p.lowest_price::text, 'offers', (
               SELECT json_agg(json_build_object('vendorId', o.vendor_id, 'price', o.price::text, 'isPriced', o.is_priced,
                 'confirmedAt', o.confirmed_at, 'available', o.available, 'onHand', o.on_hand, 'reserved', o.reserved,
                 'isActive', o.is_active) ORDER BY o.vendor_id)
               FROM order_aggregator.vendor_offer AS o WHERE o.product_id = $1))::text AS document
           FROM order_aggregator.product_stock AS p WHERE p.product_id = $1`,
    function: 'SELECT document::text FROM order_aggregator.product_documents(ARRAY[$1::text])'
  }
}

for (const [path, texts] of Object.entries(reads)) {
  app.get(`/${path}/:id`, async (request, reply) => {
    const by = request.query.by === 'function' ? 'function' : 'view'
    const { rows } = await pool.query({ name: `${path} ${by}`, text: texts[by], values: [request.params.id] })
    if (rows.length === 0) return reply.code(404).send({ message: 'Not found' })
    return reply.type('application/json').send(rows[0].document)
  })
}

app.get('/products', async (request, reply) => {
  const { rows } = await pool.query({
    name: 'list',
    text: `SELECT json_build_object('isSuccess', true, 'data', json_agg(t ORDER BY t.id, t."vendorId"))::text AS document FROM (
             SELECT product_id AS id, product_name AS name, vendor_id AS "vendorId", vendor_name AS "vendorName",
               product_id AS "vendorProductId", vendor_sku AS "vendorSku", price::text AS price, is_priced AS "isPriced", available AS quantity,
               on_hand AS "onHand", reserved, is_active AS "isActive"
             FROM order_aggregator.vendor_offer ORDER BY product_id, vendor_id LIMIT $1) AS t`,
    values: [Number(request.query.limit)]
  })
  return reply.type('application/json').send(rows[0].document)
})

await app.listen({ host: '127.0.0.1', port: Number(process.env.PORT) })
