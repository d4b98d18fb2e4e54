/*
 * broker_library.h
 *		rabbitmq-c, whatever its version calls its headers.
 */
#ifndef BRIDGE_BROKER_LIBRARY_H
#define BRIDGE_BROKER_LIBRARY_H

#if __has_include(<rabbitmq-c/amqp.h>)
#include <rabbitmq-c/amqp.h>
#include <rabbitmq-c/ssl_socket.h>
#include <rabbitmq-c/tcp_socket.h>
#else
#include <amqp.h>
#include <amqp_ssl_socket.h>
#include <amqp_tcp_socket.h>
#endif

#endif /* BRIDGE_BROKER_LIBRARY_H */
