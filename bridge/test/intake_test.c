/*
 * intake_test.c
 *		Queues of jobs: bounded, new ones first, none left waiting for ever.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#include "http/intake.h"
#include "base/stop.h"

static Job *
new_job(int limit)
{
	Job *job = job_create(NULL, NULL);

	job->limit = limit;
	job->deadline_ms = monotonic_ms() + 60000;
	return job;
}

/* An intake is for as long as the program, and keeps what is left in it; volatile, or the compiler
 * would not keep what nobody reads. */
static Intake *
new_intake(int jobs_max)
{
	static Intake *volatile made[16];
	static int nmade = 0;
	Intake    *intake = intake_create(jobs_max, SIZE_MAX);

	assert_true(nmade < 16 && made[nmade] == NULL);
	made[nmade++] = intake;
	return intake;
}

/* Takes one job, and says which. */
static int
take_one(Intake *intake)
{
	int  count;
	Job *job = intake_take(intake, 1, SIZE_MAX, &count);
	int  limit = job->limit;

	assert_int_equal(count, 1);
	job_free(job);
	return limit;
}

static void
takes_in_order_and_no_more_than_it_may_hold(void **state)
{
	Intake *intake = new_intake(3);
	Job    *one_more = new_job(4);
	Job    *jobs;
	int     count;

	(void) state;
	for (int i = 1; i <= 3; i++)
		assert_true(intake_add(intake, new_job(i)));
	assert_false(intake_add(intake, one_more));
	assert_false(intake_add_later(intake, one_more));
	job_free(one_more);
	jobs = intake_take(intake, 2, SIZE_MAX, &count);
	assert_int_equal(count, 2);
	assert_int_equal(jobs->limit, 1);
	assert_int_equal(jobs->next->limit, 2);
	assert_null(jobs->next->next);
	job_free(jobs->next);
	job_free(jobs);
	assert_int_equal(intake_depth(intake), 1);
	assert_int_equal(take_one(intake), 3);
	intake_close(intake);
	assert_null(intake_take(intake, 1, SIZE_MAX, &count));
}

static void
what_comes_back_waits_and_new_ones_go_first(void **state)
{
	Intake   *intake = new_intake(100);
	long long began = monotonic_ms();

	(void) state;
	assert_true(intake_add_later(intake, new_job(1)));
	assert_true(intake_add(intake, new_job(2)));
	assert_int_equal(take_one(intake), 2);
	assert_int_equal(take_one(intake), 1); /* waits until it is due */
	assert_true(monotonic_ms() - began >= 10);
}

static void
what_comes_back_is_not_left_waiting_for_ever(void **state)
{
	Intake *intake = new_intake(1000);
	bool    seen = false;

	(void) state;
	assert_true(intake_add_later(intake, new_job(1)));
	stop_wait_ms(30); /* it is due */
	for (int i = 0; i < 100; i++)
		assert_true(intake_add(intake, new_job(2)));
	for (int i = 0; i < 10; i++)
		seen |= take_one(intake) == 1;
	assert_true(seen);
}

static void
each_time_it_waits_longer(void **state)
{
	Intake   *intake = new_intake(10);
	Job      *job = new_job(1);
	long long last = 0;
	int       count;

	(void) state;
	for (int i = 0; i < 4; i++)
	{
		long long began = monotonic_ms();

		assert_true(intake_add_later(intake, job));
		assert_ptr_equal(intake_take(intake, 1, SIZE_MAX, &count), job);
		assert_true(job->not_before_ms - began >= last);
		last = job->not_before_ms - began;
	}
	job_free(job);
}

static void
the_overdue_can_be_taken_by_another(void **state)
{
	Intake *intake = new_intake(10);
	Job    *late = new_job(1);
	Job    *later = new_job(2);

	(void) state;
	late->deadline_ms = later->deadline_ms = monotonic_ms() - 1;
	assert_true(intake_add(intake, late));
	assert_true(intake_add(intake, new_job(3)));
	assert_true(intake_add_later(intake, later));
	assert_ptr_equal(intake_take_overdue(intake), late);
	assert_ptr_equal(intake_take_overdue(intake), later);
	assert_null(intake_take_overdue(intake));
	assert_int_equal(take_one(intake), 3);
	job_free(late);
	job_free(later);
}

static void
waiting_ends_with_a_job_or_with_its_time(void **state)
{
	Intake *intake = new_intake(10);

	(void) state;
	assert_false(intake_wait(intake, 0));
	assert_false(intake_wait(intake, 5));
	assert_true(intake_add_later(intake, new_job(1)));
	assert_false(intake_wait(intake, 0));
	assert_true(intake_wait(intake, 60000)); /* as soon as it is due */
	assert_int_equal(take_one(intake), 1);
	assert_true(intake_add(intake, new_job(2)));
	assert_true(intake_wait(intake, 0));
	assert_int_equal(take_one(intake), 2);
	intake_close(intake);
	assert_true(intake_wait(intake, 60000));
}

static void
closed_it_gives_out_what_is_left(void **state)
{
	Intake *intake = new_intake(10);
	Job    *job = new_job(9);
	int     count;

	(void) state;
	assert_true(intake_add_later(intake, new_job(1)));
	assert_true(intake_add(intake, new_job(2)));
	intake_close(intake);
	assert_false(intake_add(intake, job));
	job_free(job);
	assert_int_equal(take_one(intake) + take_one(intake), 3);
	assert_null(intake_take(intake, 1, SIZE_MAX, &count));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(takes_in_order_and_no_more_than_it_may_hold),
		cmocka_unit_test(what_comes_back_waits_and_new_ones_go_first),
		cmocka_unit_test(what_comes_back_is_not_left_waiting_for_ever),
		cmocka_unit_test(each_time_it_waits_longer),
		cmocka_unit_test(the_overdue_can_be_taken_by_another),
		cmocka_unit_test(closed_it_gives_out_what_is_left),
		cmocka_unit_test(waiting_ends_with_a_job_or_with_its_time),
	};

	return stop_init() ? cmocka_run_group_tests(tests, NULL, NULL) : 1;
}
