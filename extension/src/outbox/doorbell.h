/*
 * doorbell.h
 *		Waking the relay: NOTIFY, but only while it sleeps.
 */
#ifndef OA_DOORBELL_H
#define OA_DOORBELL_H

/* doorbell_ring_at_commit has the transaction, if it commits, wake the relay if it sleeps then. */
extern void doorbell_ring_at_commit(void);

#endif /* OA_DOORBELL_H */
