/*
 * service.h
 *		What systemd is told of us, if it has started us (Type=notify, WatchdogSec).
 */
#ifndef BRIDGE_SERVICE_H
#define BRIDGE_SERVICE_H

/* service_ready: we do what we are for; service_stopping: we end. */
extern void service_ready(void);
extern void service_stopping(void);

/* service_extend_stop: from now on we may take that long to end. */
extern void service_extend_stop(int seconds);

/* service_alive tells the watchdog that we live. */
extern void service_alive(void);

/* service_alive_ms returns how often that is to be done, so that one that comes late does no harm;
 * 0: nobody watches. */
extern int service_alive_ms(void);

#endif /* BRIDGE_SERVICE_H */
