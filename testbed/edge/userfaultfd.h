/*
 * A userfaultfd of another task's address space, made by one system call that the task is made to
 * run while it stands still for less than a millisecond.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

/* Our own names: the headers of a build machine may be older than the kernel it runs on. */
struct uffd_api { uint64_t api, features, ioctls; };
#define API_IOCTL _IOWR(0xAA, 0x3F, struct uffd_api)
#define API 0xAA
#define USER_MODE_ONLY 1 /* needs no capability inside the container, and is enough here */
#define FEATURE_WP 1ULL
#define FEATURE_WP_UNPOPULATED (1ULL << 13)
#define FEATURE_WP_ASYNC (1ULL << 15)
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
