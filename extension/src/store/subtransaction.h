/*
 * subtransaction.h
 *		Work that may fail without the transaction's failing with it.
 */
#ifndef OA_SUBTRANSACTION_H
#define OA_SUBTRANSACTION_H

/* subtransaction_run runs it in a subtransaction; NULL, or the error that it ended with, all being
 * as it was before. */
extern ErrorData *subtransaction_run(void (*work)(void *context), void *context);

#endif /* OA_SUBTRANSACTION_H */
