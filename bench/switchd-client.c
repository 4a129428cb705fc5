/*
 * Two clients of a switch that speaks uml_switch's protocol: one sends as fast as it can, the other counts.
 * switchd-client CONTROL-SOCKET FRAME-BYTES SECONDS; prints frames sent, frames received and seconds.
 */
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct __attribute__((packed)) request {
	uint32_t magic, version, type;
	struct sockaddr_un address;
	uint8_t pad[2];
};

struct client {
	int control, data;
	struct sockaddr_un peer;
};

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static struct client join(const char *path, int number)
{
	struct client c;
	struct sockaddr_un control = { .sun_family = AF_UNIX }, own = { .sun_family = AF_UNIX };
	struct request request = { 0xfeedface, 3, 0, { 0 }, { 0 } };
	int name[2] = { getpid(), number };

	c.data = socket(AF_UNIX, SOCK_DGRAM, 0);
	memcpy(own.sun_path + 4, name, sizeof(name));
	request.address = own;
	if (bind(c.data, (struct sockaddr *)&own, sizeof(own)) < 0) fail("bind");
	c.control = socket(AF_UNIX, SOCK_STREAM, 0);
	strncpy(control.sun_path, path, sizeof(control.sun_path) - 1);
	if (connect(c.control, (struct sockaddr *)&control, sizeof(control)) < 0) fail("connect");
	if (write(c.control, &request, sizeof(request)) != sizeof(request)) fail("write");
	if (read(c.control, &c.peer, sizeof(c.peer)) != sizeof(c.peer)) fail("no answer");
	return c;
}

static void header(uint8_t *frame, int to, int from)
{
	memset(frame, 0, 12);
	frame[0] = frame[6] = 2;
	frame[5] = to;
	frame[11] = from;
	frame[12] = 0x88;
	frame[13] = 0xb5;
}

static void receive(struct client *c, int report)
{
	uint8_t frame[2048];
	struct { long count; double seconds; } result = { 0, 0 };
	struct pollfd ready = { c->data, POLLIN, 0 };
	double first = 0, last = 0;

	/* The first frame may wait for the sender to start, any other for a second. */
	while (poll(&ready, 1, result.count ? 1000 : 5000) > 0) {
		if (recv(c->data, frame, sizeof(frame), 0) < 0) break;
		/* Reading the clock costs little beside the system calls. */
		last = now();
		if (result.count++ == 0) first = last;
	}
	result.seconds = last - first;
	if (write(report, &result, sizeof(result)) < 0) fail("report");
	_exit(0);
}

int main(int argc, char **argv)
{
	if (argc != 4) return 2;
	int bytes = atoi(argv[2]), report[2];
	double seconds = atof(argv[3]);
	uint8_t frame[2048] = { 0 };
	struct client a = join(argv[1], 1), b = join(argv[1], 2);
	struct { long count; double seconds; } result;
	long sent = 0;

	/* So that the switch knows where the receiver is. */
	header(frame, 1, 2);
	sendto(b.data, frame, 64, 0, (struct sockaddr *)&b.peer, sizeof(b.peer));
	usleep(100000);
	if (pipe(report) < 0) fail("pipe");
	if (fork() == 0) receive(&b, report[1]);
	header(frame, 2, 1);
	double end = now() + seconds;
	while ((sent & 255) || now() < end)
		if (sendto(a.data, frame, bytes, 0, (struct sockaddr *)&a.peer, sizeof(a.peer)) == bytes) sent++;
		else fail("send");
	if (read(report[0], &result, sizeof(result)) != sizeof(result)) fail("report");
	wait(NULL);
	printf("%ld %ld %.6f\n", sent, result.count, result.seconds);
	return 0;
}
