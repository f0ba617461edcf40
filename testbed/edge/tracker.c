/*
 * tracker PID: tells from outside which private pages of a running task were written.
 *
 * A userfaultfd of the task's address space is made once, by one system call that the task is made
 * to run, and write-protects its private mappings in such a way that the kernel lifts the
 * protection by itself (UFFD_FEATURE_WP_ASYNC). PAGEMAP_SCAN then finds the pages that lost it and
 * protects them again, in one step. Linux 6.7, arm64: 6.10. Nothing of the task's text is written.
 *
 * Standard output begins with one u64: 0, or the errno that stands in the way (words on standard
 * error). Then every command on standard input is answered by one u64 n, LOST if the address space
 * is another one now:
 * 'n'  how many mappings are new, so that nobody watches them yet.
 * 'w'  watch them; n = 0. The task must stand still: a mapping that grew while it is registered
 *      would become two, and the task could not move it by one call any more. The kernel unwatches
 *      what the task moves, and so it is new again.
 * 'l'  look: n times (u64 start, u64 end, u64 kind). WRITTEN: private pages with content of their
 *      own, watched first or written since the last look. UNKNOWN: pages that nobody watches, to be
 *      compared by content.
 * 'b'  both, 'w' and 'l', for a task that stands still anyway.
 * The end of standard input ends it, and with it the protection.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "userfaultfd.h"

struct uffd_register { uint64_t start, length, mode, ioctls; };
struct uffd_protect { uint64_t start, length, mode; };
struct pages { uint64_t start, end, categories; };
struct scan {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
	uint64_t inverted, mask, anyof, returned;
};
#define REGISTER_IOCTL _IOWR(0xAA, 0x00, struct uffd_register)
#define PROTECT_IOCTL _IOWR(0xAA, 0x06, struct uffd_protect)
#define SCAN_IOCTL _IOWR('f', 16, struct scan)
#define MODE_WP 2
enum { P_WRITTEN = 2, P_FILE = 4, P_PRESENT = 8, P_SWAPPED = 16, P_ZERO = 32 };
enum { F_PROTECT = 1, F_CHECK_ASYNC = 2 };
enum { WRITTEN = 1, UNKNOWN = 2 };
#define LOST UINT64_MAX

static int tell(const void *data, size_t size)
{
	for (const char *at = data; size;) {
		ssize_t n = write(STDOUT_FILENO, at, size);

		if (n < 0)
			return -1;
		at += n;
		size -= (size_t)n;
	}
	return 0;
}

/* ---- what was found, growing as it is found ---- */
static struct pages *found;
static size_t found_n, found_room;

static int add(uint64_t start, uint64_t end, uint64_t kind)
{
	if (found_n == found_room) {
		size_t room = found_room ? 2 * found_room : 4096;
		struct pages *more = realloc(found, room * sizeof *found);

		if (!more)
			return -ENOMEM;
		found = more;
		found_room = room;
	}
	found[found_n++] = (struct pages){ start, end, kind };
	return 0;
}

/* Pages with content of their own in start..end; those only that were `written` where asked. */
static int scan(int pagemap, uint64_t start, uint64_t end, int written, int flags, uint64_t kind)
{
	static struct pages vec[4096];
	size_t before = found_n;

	while (start < end) {
		struct scan s = {
			.size = sizeof s, .flags = (uint64_t)flags, .start = start, .end = end,
			.vec = (uint64_t)(uintptr_t)vec, .vec_len = sizeof vec / sizeof *vec,
			.inverted = P_FILE | P_ZERO, .mask = P_FILE | P_ZERO | (written ? P_WRITTEN : 0),
			.anyof = P_PRESENT | P_SWAPPED, .returned = P_PRESENT | P_SWAPPED,
		};
		int n = ioctl(pagemap, SCAN_IOCTL, &s);
		int error = n < 0 ? -errno : 0;

		for (int i = 0; i < n && !error; i++)
			error = add(vec[i].start, vec[i].end, kind);
		if (!error && s.walk_end <= start)
			error = -EIO;
		if (error) {
			found_n = before;
			return error;
		}
		start = s.walk_end;
	}
	return 0;
}

/* ---- the mappings, as they were a moment ago ---- */
struct mapping {
	uint64_t start, end;
	enum { PRIVATE, VDSO, OTHER } kind;
};
static struct mapping *maps;
static size_t maps_n, maps_room;

/* The next line of the text of maps; 0 at its end. */
static int next(FILE *text, struct mapping *m)
{
	char line[4352], mode[8];

	while (fgets(line, sizeof line, text)) {
		if (sscanf(line, "%lx-%lx %7s", &m->start, &m->end, mode) != 3)
			continue;
		m->kind = mode[3] != 'p' || strstr(line, "[vvar") || strstr(line, "[vsyscall]") ? OTHER
			: strstr(line, "[vdso]") ? VDSO : PRIVATE;
		return 1;
	}
	return 0;
}

static int read_maps(pid_t task)
{
	FILE *text = open_maps(task);
	struct mapping this;
	int error = text ? 0 : -errno;

	maps_n = 0;
	while (!error && next(text, &this)) {
		struct mapping *last = maps_n ? &maps[maps_n - 1] : NULL;

		/* The kernel writes the text in pieces: what grows in between stands there twice. */
		if (last && this.start < last->end) {
			last->end = this.end > last->end ? this.end : last->end;
			continue;
		}
		if (maps_n == maps_room) {
			size_t room = maps_room ? 2 * maps_room : 512;
			struct mapping *more = realloc(maps, room * sizeof *maps);

			if (!more) {
				error = -ENOMEM;
				break;
			}
			maps = more;
			maps_room = room;
		}
		maps[maps_n++] = this;
	}
	if (text)
		fclose(text);
	return error;
}

/* ---- stretches of addresses ---- */
struct stretches {
	struct { uint64_t start, end; } *at;
	size_t n, room;
};
static struct stretches fresh; /* watched, and not looked at yet: every page in them is news */
static struct stretches refused; /* mappings that may not be watched (MAP_DROPPABLE) */

static int put(struct stretches *s, uint64_t start, uint64_t end)
{
	if (s->n == s->room) {
		size_t room = s->room ? 2 * s->room : 64;
		void *more = realloc(s->at, room * sizeof *s->at);

		if (!more)
			return -ENOMEM;
		s->at = more;
		s->room = room;
	}
	s->at[s->n].start = start;
	s->at[s->n++].end = end;
	return 0;
}

static int holds(const struct stretches *s, const struct mapping *m)
{
	for (size_t i = 0; i < s->n; i++)
		if (s->at[i].start == m->start && s->at[i].end == m->end)
			return 1;
	return 0;
}

/* ---- what the commands do ---- */
static int watch(int uffd, const struct mapping *m)
{
	struct uffd_register r = { .start = m->start, .length = m->end - m->start, .mode = MODE_WP };

	return ioctl(uffd, REGISTER_IOCTL, &r) ? -errno : 0;
}

/* Take old marks away. Beside what was moved a mapping may lose its watch and keep its marks: its
 * pages can be written again then, and still would pass for protected ones. */
static int clear(int uffd, const struct mapping *m)
{
	struct uffd_protect p = { .start = m->start, .length = m->end - m->start };

	return ioctl(uffd, PROTECT_IOCTL, &p) ? -errno : 0;
}

/* Whether a private mapping has no watch; one page tells. */
static int is_new(int pagemap, const struct mapping *m)
{
	struct pages page;
	struct scan s = {
		.size = sizeof s, .flags = F_CHECK_ASYNC, .start = m->start,
		.end = m->start + (uint64_t)sysconf(_SC_PAGESIZE), .vec = (uint64_t)(uintptr_t)&page,
		.vec_len = 1, .returned = P_PRESENT,
	};

	return m->kind == PRIVATE && ioctl(pagemap, SCAN_IOCTL, &s) < 0 && errno == EPERM;
}

static uint64_t count_new(int pagemap)
{
	uint64_t count = 0;

	for (const struct mapping *m = maps; m < maps + maps_n; m++)
		count += is_new(pagemap, m) && !holds(&refused, m);
	return count;
}

static int watch_new(int pagemap, int uffd)
{
	static int begun; /* before that whoever watches is somebody else, and the kernel says so */
	int error = 0;

	refused.n = 0;
	for (const struct mapping *m = maps; m < maps + maps_n && !error; m++) {
		if (m->kind != PRIVATE || (begun && !is_new(pagemap, m)))
			continue;
		error = watch(uffd, m);
		if (error == -ESRCH || error == -ENOMEM || error == -EBUSY)
			break;
		if (error) {
			error = put(&refused, m->start, m->end);
			continue;
		}
		error = clear(uffd, m);
		if (!error)
			error = put(&fresh, m->start, m->end);
	}
	begun = 1;
	return error;
}

/* The pages of a watched mapping that are news: all in fresh stretches, elsewhere the written. */
static int look_at(int pagemap, const struct mapping *m)
{
	const int watched = F_PROTECT | F_CHECK_ASYNC;
	int error = 0;

	for (size_t i = 0; i < fresh.n && !error; i++) {
		uint64_t start = fresh.at[i].start > m->start ? fresh.at[i].start : m->start;
		uint64_t end = fresh.at[i].end < m->end ? fresh.at[i].end : m->end;

		error = scan(pagemap, start, end, 0, watched, WRITTEN);
	}
	return error ? error : scan(pagemap, m->start, m->end, 1, watched, WRITTEN);
}

static int look(int pagemap)
{
	int error = 0;

	for (const struct mapping *m = maps; m < maps + maps_n && !error; m++) {
		size_t before = found_n;

		if (m->kind == VDSO) {
			error = add(m->start, m->end, UNKNOWN);
		} else if (m->kind == PRIVATE && look_at(pagemap, m)) {
			found_n = before;
			if (scan(pagemap, m->start, m->end, 0, 0, UNKNOWN)) /* going away, or not to be scanned */
				error = add(m->start, m->end, UNKNOWN);
		}
	}
	fresh.n = 0;
	return error;
}

/* Do what one command says; `count` is its answer. */
static int obey(pid_t task, int uffd, char command, uint64_t *count)
{
	int error = read_maps(task);
	char path[64];

	found_n = 0;
	*count = 0;
	if (error)
		return error;
	snprintf(path, sizeof path, "/proc/%d/pagemap", task);
	int pagemap = open(path, O_RDONLY | O_CLOEXEC); /* anew: it belongs to an address space */
	if (pagemap < 0)
		return -errno;
	if (command == 'w' || command == 'b')
		error = watch_new(pagemap, uffd);
	if (!error && (command == 'l' || command == 'b'))
		error = look(pagemap);
	*count = command == 'n' ? count_new(pagemap) : found_n;
	close(pagemap);
	return error;
}

int main(int count, char **words)
{
	pid_t task = count == 2 ? atoi(words[1]) : 0;
	uint64_t answer;
	char command;

	if (task <= 0) {
		fprintf(stderr, "usage: tracker PID\n");
		return 2;
	}
	int uffd = make_userfaultfd(task);
	answer = uffd < 0 ? (uint64_t)-uffd : 0;
	if (tell(&answer, sizeof answer) || uffd < 0)
		return 1;
	while (read(STDIN_FILENO, &command, 1) == 1) {
		int error = obey(task, uffd, command, &answer);

		if (error) {
			answer = LOST;
			fail("the address space cannot be watched any more", -error);
		}
		if (tell(&answer, sizeof answer) || (!error && tell(found, found_n * sizeof *found)))
			return 1;
	}
	free(fresh.at);
	free(refused.at);
	free(found);
	free(maps);
	return 0;
}
