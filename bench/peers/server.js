// A competent Node service for bench-http: Fastify, schema-checked bodies, a pg pool of 16 with prepared statements,
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

await app.listen({ host: '127.0.0.1', port: Number(process.env.PORT) })
