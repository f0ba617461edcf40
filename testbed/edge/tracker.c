/*
 * tracker PID: tells from outside which private pages of a running task were written.
 *
 * A userfaultfd of the task's address space is made once, by one system call that the task is made
 * to run, and write-protects its private mappings in such a way that the kernel lifts the
 * protection by itself (UFFD_FEATURE_WP_ASYNC). PAGEMAP_SCAN then finds the pages that lost it and
 * protects them again, in one step. Linux 6.7, arm64: 6.10. Nothing of the task's text is written.
 *
 * Standard output begins with one u64: 0, or the errno that stands in the way (words on standard
 * error). For every 's' on standard input: u64 n, then n times (u64 start, u64 end, u64 kind).
 * WRITTEN: private pages with content of their own, new or written since the last 's'. UNKNOWN:
 * pages that cannot be watched, to be compared by content. n = LOST: the address space is another
 * one now. The end of standard input ends it, and with it the protection.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

/* Our own names: the headers of a build machine may be older than the kernel it runs on. */
struct uffd_api { uint64_t api, features, ioctls; };
struct uffd_register { uint64_t start, length, mode, ioctls; };
struct pages { uint64_t start, end, categories; };
struct scan {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
	uint64_t inverted, mask, anyof, returned;
};
#define API_IOCTL _IOWR(0xAA, 0x3F, struct uffd_api)
#define REGISTER_IOCTL _IOWR(0xAA, 0x00, struct uffd_register)
#define SCAN_IOCTL _IOWR('f', 16, struct scan)
#define API 0xAA
#define MODE_WP 2
#define USER_MODE_ONLY 1 /* needs no capability inside the container, and is enough here */
#define FEATURE_WP 1ULL
#define FEATURE_WP_UNPOPULATED (1ULL << 13)
#define FEATURE_WP_ASYNC (1ULL << 15)
enum { P_WRITTEN = 2, P_FILE = 4, P_PRESENT = 8, P_SWAPPED = 16, P_ZERO = 32 };
enum { F_PROTECT = 1, F_CHECK_ASYNC = 2 };
enum { WRITTEN = 1, UNKNOWN = 2 };
#define LOST UINT64_MAX
#define SIGSET_BYTES 8
#define TRAP (1ULL << (SIGTRAP - 1))

/* ---- the processor: the system call instruction and the registers of a call ---- */
#if defined(__x86_64__)
static const unsigned char INSTRUCTION[] = { 0x0f, 0x05 }; /* syscall */
#define STEP 1
#define PC(r) ((r).rip)
#define RESULT(r) ((long)(r).rax)
static void prepare(struct user_regs_struct *r, long number, long argument)
{
	r->rax = (unsigned long)number;
	r->rdi = (unsigned long)argument;
	r->orig_rax = (unsigned long)-1; /* in no system call: the kernel must not rewind the new rip */
}
#elif defined(__aarch64__)
static const unsigned char INSTRUCTION[] = { 0x01, 0x00, 0x00, 0xd4 }; /* svc #0 */
#define STEP 4
#define PC(r) ((r).pc)
#define RESULT(r) ((long)(r).regs[0])
static void prepare(struct user_regs_struct *r, long number, long argument)
{
	r->regs[8] = (unsigned long)number;
	r->regs[0] = (unsigned long)argument;
	r->pstate &= ~(3UL << 10); /* BTYPE: with BTI a stop after an indirect branch would fault */
}
#else
#error "x86-64 and arm64 only"
#endif

static int fail(const char *what, int number)
{
	fprintf(stderr, "%s: %s\n", what, strerror(number));
	return -number;
}

static int registers(pid_t task, long request, struct user_regs_struct *r)
{
	struct iovec whole = { r, sizeof *r };

	if (ptrace(request, task, (void *)NT_PRSTATUS, &whole))
		return -errno;
	return whole.iov_len == sizeof *r ? 0 : -ENOEXEC; /* a 32-bit task has fewer */
}

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

static FILE *open_maps(pid_t task)
{
	char path[64];

	snprintf(path, sizeof path, "/proc/%d/maps", task);
	return fopen(path, "re");
}

/* Where the vdso has a system call instruction; 0 where there is none. */
static uint64_t find_instruction(pid_t task)
{
	char line[4352], path[64];
	uint64_t start, end, found = 0;
	FILE *text = open_maps(task);

	while (text && !found && fgets(line, sizeof line, text)) {
		if (!strstr(line, "[vdso]") || sscanf(line, "%lx-%lx", &start, &end) != 2)
			continue;
		unsigned char *code = malloc(end - start);
		snprintf(path, sizeof path, "/proc/%d/mem", task);
		int memory = open(path, O_RDONLY | O_CLOEXEC);
		ssize_t size = code ? pread(memory, code, end - start, (off_t)start) : -1;
		for (ssize_t i = 0; i + (ssize_t)sizeof INSTRUCTION <= size && !found; i += STEP)
			if (!memcmp(code + i, INSTRUCTION, sizeof INSTRUCTION))
				found = start + (uint64_t)i;
		close(memory);
		free(code);
	}
	if (text)
		fclose(text);
	return found;
}

/* One system call in a stopped task, by single-stepping an instruction that is there already. */
static long call(pid_t task, uint64_t instruction, long number, long argument)
{
	struct user_regs_struct before, now;
	int status, error = registers(task, PTRACE_GETREGSET, &before);

	if (error)
		return error;
	now = before;
	PC(now) = instruction;
	prepare(&now, number, argument);
	error = registers(task, PTRACE_SETREGSET, &now);
	while (!error) {
		if (ptrace(PTRACE_SINGLESTEP, task, 0, 0) || waitpid(task, &status, __WALL) < 0)
			return -errno;
		if (!WIFSTOPPED(status))
			return -ESRCH;
		error = registers(task, PTRACE_GETREGSET, &now);
		if (PC(now) != instruction)
			break;
	}
	int restored = registers(task, PTRACE_SETREGSET, &before);
	return error ? error : restored ? restored : RESULT(now);
}

/* Stop a task; a signal that comes first is let through. */
static int stop(pid_t task)
{
	int status;

	if (ptrace(PTRACE_SEIZE, task, 0, 0) || ptrace(PTRACE_INTERRUPT, task, 0, 0))
		return -errno;
	for (;;) {
		if (waitpid(task, &status, __WALL) < 0)
			return -errno;
		if (!WIFSTOPPED(status))
			return -ESRCH;
		if (status >> 16 == PTRACE_EVENT_STOP)
			return 0;
		ptrace(PTRACE_CONT, task, 0, WSTOPSIG(status));
	}
}

/* Whether a stopped task ignores SIGTRAP, or is yet to take one: a step would disturb either. */
static int holds_trap(pid_t task)
{
	char line[256], name[16], path[64];
	uint64_t signals;
	int held = 0;

	snprintf(path, sizeof path, "/proc/%d/status", task);
	FILE *status = fopen(path, "re");
	while (status && fgets(line, sizeof line, status))
		if (sscanf(line, "%15[A-Za-z]: %lx", name, &signals) == 2 && signals & TRAP)
			held |= !strcmp(name, "SigPnd") || !strcmp(name, "ShdPnd") || !strcmp(name, "SigIgn");
	if (status)
		fclose(status);
	return held;
}

/* A userfaultfd of the task's address space, in our own file table. */
static int make_userfaultfd(pid_t task)
{
	uint64_t instruction = find_instruction(task), mask, all = ~TRAP;
	int ours = -1, process = (int)syscall(SYS_pidfd_open, task, 0);
	long theirs;

	if (process < 0)
		return fail("pidfd_open", errno);
	if (!instruction)
		return fail("no system call instruction in the vdso", ENOEXEC);
	int error = stop(task);
	if (error)
		return fail("ptrace", -error);
	if (holds_trap(task)) {
		ptrace(PTRACE_DETACH, task, 0, 0);
		return fail("it ignores SIGTRAP or has one pending, which a step would undo", EBUSY);
	}
	/* A handler that began now would run on registers that are not the task's. SIGTRAP alone stays
	   allowed: where it is blocked, the kernel makes a step take the task's own handler away. */
	ptrace(PTRACE_GETSIGMASK, task, (void *)SIGSET_BYTES, &mask);
	ptrace(PTRACE_SETSIGMASK, task, (void *)SIGSET_BYTES, &all);
	theirs = call(task, instruction, SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | USER_MODE_ONLY);
	if (theirs >= 0) {
		ours = (int)syscall(SYS_pidfd_getfd, process, (int)theirs, 0);
		error = ours < 0 ? errno : 0;
		call(task, instruction, SYS_close, theirs);
	} else {
		error = (int)-theirs;
	}
	ptrace(PTRACE_SETSIGMASK, task, (void *)SIGSET_BYTES, &mask);
	ptrace(PTRACE_DETACH, task, 0, 0);
	close(process);
	if (error)
		return fail("userfaultfd in the task", error);
	struct uffd_api api = {
		.api = API, .features = FEATURE_WP | FEATURE_WP_ASYNC | FEATURE_WP_UNPOPULATED,
	};
	if (ioctl(ours, API_IOCTL, &api))
		return fail("UFFDIO_API", errno);
	return ours;
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
	int error; /* why it was not scanned */
	int refused; /* why it cannot be watched */
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
		this.error = this.refused = 0;
		maps[maps_n++] = this;
	}
	if (text)
		fclose(text);
	return error;
}

static int watch(int uffd, uint64_t start, uint64_t end)
{
	struct uffd_register r = { .start = start, .length = end - start, .mode = MODE_WP };

	return ioctl(uffd, REGISTER_IOCTL, &r) ? -errno : 0;
}

static int ends_all(int error)
{
	return error == -ESRCH || error == -ENOMEM || error == -EBUSY;
}

/* Watch mappings together with what is between and beside them, in one step: one of them may have
 * grown meanwhile, and registering a part would make two of it, which the task could not move by
 * one call any more. One that may not be watched (MAP_DROPPABLE) is found by halving. */
static int cover(int uffd, size_t first, size_t last)
{
	uint64_t low = first ? maps[first - 1].end : maps[first].start;
	uint64_t high = last + 1 < maps_n ? maps[last + 1].start : maps[last].end;
	size_t middle = first + (last - first) / 2;
	int error = watch(uffd, low, high);

	if (!error || ends_all(error))
		return error;
	if (first == last) {
		maps[first].refused = watch(uffd, maps[first].start, maps[first].end);
		return 0;
	}
	error = cover(uffd, first, middle);
	return error ? error : cover(uffd, middle + 1, last);
}

static int is_new(const struct mapping *m)
{
	return m->kind == PRIVATE && m->error == -EPERM;
}

/* Watch new mappings that follow one another, from `number` on, and say where they end. One that
 * was watched is left alone: where it lost that meanwhile (the kernel joins what is moved beside
 * it, and forgets both), its pages bear marks that say nothing, and the next look finds it new. */
static int cover_new(int uffd, size_t number, size_t *covered)
{
	*covered = number + 1;
	while (*covered < maps_n && is_new(&maps[*covered]))
		++*covered;
	return cover(uffd, number, *covered - 1);
}

/* Before 6.13 (and its stable relatives) moved pages bear the mark of their old protection. A
 * mapping that was moved and watched in one moment could pass for one that nobody wrote to: after
 * a look that watched more, another must take all pages. */
static int marks_move(void)
{
	struct utsname name;
	int major = 0, minor = 0;

	return uname(&name) || sscanf(name.release, "%d.%d", &major, &minor) != 2
		|| major < 6 || (major == 6 && minor < 13);
}

/* Everything that is to be looked at; an error says that the address space is another one.
 * `whole`: all pages, not the written ones only. It says whether the next look must be so. */
static int look(pid_t task, int uffd, int *whole)
{
	static int looked;
	const int watched = F_PROTECT | F_CHECK_ASYNC;
	int error = read_maps(task), again = 0;
	size_t covered = 0;
	char path[64];

	found_n = 0;
	snprintf(path, sizeof path, "/proc/%d/pagemap", task);
	int pagemap = open(path, O_RDONLY | O_CLOEXEC); /* anew: it belongs to an address space */
	if (!error && pagemap < 0)
		error = -errno;
	for (struct mapping *m = maps; m < maps + maps_n && !error; m++)
		if (m->kind == VDSO)
			error = add(m->start, m->end, UNKNOWN);
		else if (m->kind == PRIVATE)
			m->error = *whole ? -EPERM : scan(pagemap, m->start, m->end, 1, watched, WRITTEN);
	for (struct mapping *m = maps; m < maps + maps_n && !error; m++) {
		if (m->kind != PRIVATE || !m->error)
			continue;
		if (is_new(m)) {
			/* Made, moved or grown since the last look: whatever is in it is new to us. */
			if ((size_t)(m - maps) >= covered)
				error = cover_new(uffd, (size_t)(m - maps), &covered);
			again |= looked;
			m->error = m->refused;
			if (!error && !m->error)
				m->error = scan(pagemap, m->start, m->end, 0, watched, WRITTEN);
		}
		if (!error && m->error)
			m->error = scan(pagemap, m->start, m->end, 0, 0, UNKNOWN);
		if (!error && m->error) /* going away, or of a kind that cannot be scanned */
			error = add(m->start, m->end, UNKNOWN);
	}
	if (pagemap >= 0)
		close(pagemap);
	*whole = again && marks_move();
	looked = 1;
	return error;
}

int main(int count, char **words)
{
	pid_t task = count == 2 ? atoi(words[1]) : 0;
	int whole = 1;
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
	while (read(STDIN_FILENO, &command, 1) == 1 && command == 's') {
		int error = look(task, uffd, &whole);

		answer = error ? LOST : found_n;
		if (error)
			fail("the address space cannot be watched any more", -error);
		if (tell(&answer, sizeof answer) || (!error && tell(found, found_n * sizeof *found)))
			return 1;
	}
	free(found);
	free(maps);
	return 0;
}
