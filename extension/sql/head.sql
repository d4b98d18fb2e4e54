/* order_aggregator 1.1, put together by make of the files in extension/sql */

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION order_aggregator" to load this file. \quit

