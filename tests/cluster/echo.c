/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A server that says who it is and whom it saw, and its client.
 *
 *	echo serve NAME PORT...		TCP and UDP: answers "NAME CLIENT\n", which it prints, too;
 *		TCP then echoes
 *	echo ask tcp|udp IP PORT N [SPORT]
 *		N times: connect or send, print the answer; "-" where there is none within 10 s (UDP:
 *		2 s), "refused" where the connection is. Exit status 0 if all were answered.
 *	echo hold IP PORT		connect, print the answer, then a line for each line of stdin
 */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define FDS_MAX 256

static void die(const char *what)
{
	perror(what);
	exit(2);
}

static struct sockaddr_in address(const char *ip, const char *port)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};

	if (inet_pton(AF_INET, ip, &sa.sin_addr) != 1)
		die(ip);
	return sa;
}

static int open_socket(int type, const struct sockaddr_in *local)
{
	int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0), on = 1;
	/* Closed by a reset, which IPVS forgets in 10 s: in TIME_WAIT it counts for 120 s. */
	struct linger linger = {.l_onoff = 1};

	if (fd < 0)
		die("socket");
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	if (local && bind(fd, (const struct sockaddr *)local, sizeof(*local)) < 0)
		die("bind");
	return fd;
}

/* ---- server ---- */

static struct pollfd fds[FDS_MAX];
static int types[FDS_MAX]; /* SOCK_DGRAM, SOCK_STREAM: listens, 0: a connection */
static nfds_t n_fds;

static void add(int fd, int type)
{
	if (n_fds == FDS_MAX) {
		close(fd);
		return;
	}
	types[n_fds] = type;
	fds[n_fds++] = (struct pollfd){.fd = fd, .events = POLLIN};
}

static int greet(const char *name, const struct sockaddr_in *from, char *buf, size_t size)
{
	char ip[INET_ADDRSTRLEN];

	inet_ntop(AF_INET, &from->sin_addr, ip, sizeof(ip));
	printf("%s %s\n", name, ip);
	fflush(stdout);
	return snprintf(buf, size, "%s %s\n", name, ip);
}

static void answer(nfds_t i, const char *name)
{
	struct sockaddr_in from;
	socklen_t len = sizeof(from);
	char buf[512];
	ssize_t n;
	int fd;

	if (types[i] == SOCK_DGRAM) {
		if (recvfrom(fds[i].fd, buf, sizeof(buf), 0, (struct sockaddr *)&from, &len) >= 0)
			(void)sendto(fds[i].fd, buf, (size_t)greet(name, &from, buf, sizeof(buf)),
				0, (struct sockaddr *)&from, len);
	} else if (types[i] == SOCK_STREAM) {
		fd = accept(fds[i].fd, (struct sockaddr *)&from, &len);
		if (fd < 0)
			return;
		(void)send(fd, buf, (size_t)greet(name, &from, buf, sizeof(buf)), MSG_NOSIGNAL);
		add(fd, 0);
	} else {
		n = recv(fds[i].fd, buf, sizeof(buf), 0);
		if (n > 0 && send(fds[i].fd, buf, (size_t)n, MSG_NOSIGNAL) == n)
			return;
		close(fds[i].fd);
		fds[i] = fds[--n_fds];
		types[i] = types[n_fds];
	}
}

static int serve(const char *name, char **ports)
{
	for (; *ports; ports++) {
		struct sockaddr_in any = address("0.0.0.0", *ports);
		int fd = open_socket(SOCK_STREAM, &any);

		if (listen(fd, 64) < 0)
			die("listen");
		add(fd, SOCK_STREAM);
		add(open_socket(SOCK_DGRAM, &any), SOCK_DGRAM);
	}
	while (poll(fds, n_fds, -1) >= 0)
		for (nfds_t i = n_fds; i-- > 0;)
			if (fds[i].revents)
				answer(i, name);
	return 2;
}

/* ---- client ---- */

static int ask_once(int type, const struct sockaddr_in *to, const struct sockaddr_in *local)
{
	/* A SYN that was lost is sent again after 1, 3 and 7 s. */
	struct timeval limit = {.tv_sec = type == SOCK_STREAM ? 10 : 2};
	int fd = open_socket(type, local), r = 1;
	char buf[512];
	ssize_t n = -1;

	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	if (connect(fd, (const struct sockaddr *)to, sizeof(*to)) == 0 &&
		(type == SOCK_STREAM || send(fd, "?", 1, 0) == 1))
		n = recv(fd, buf, sizeof(buf), 0);
	if (n > 0) {
		fwrite(buf, 1, (size_t)n, stdout);
		r = 0;
	} else {
		puts(n < 0 && errno == ECONNREFUSED ? "refused" : "-");
	}
	close(fd);
	return r;
}

static int ask(int argc, char **argv)
{
	struct sockaddr_in to = address(argv[3], argv[4]);
	struct sockaddr_in local = address("0.0.0.0", argc > 6 ? argv[6] : "0");
	int failed = 0;

	for (int i = 0; i < atoi(argv[5]); i++)
		failed |= ask_once(strcmp(argv[2], "udp") == 0 ? SOCK_DGRAM : SOCK_STREAM, &to,
			argc > 6 ? &local : NULL);
	return failed;
}

static int hold(char **argv)
{
	struct sockaddr_in to = address(argv[2], argv[3]);
	int fd = open_socket(SOCK_STREAM, NULL);
	char buf[512];
	ssize_t n;

	if (connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0)
		die("connect");
	for (;;) {
		n = recv(fd, buf, sizeof(buf), 0);
		if (n <= 0)
			break;
		fwrite(buf, 1, (size_t)n, stdout);
		fflush(stdout);
		if (!fgets(buf, sizeof(buf), stdin))
			return 0;
		if (send(fd, buf, strlen(buf), MSG_NOSIGNAL) < 0)
			break;
	}
	puts("gone");
	return 1;
}

int main(int argc, char **argv)
{
	if (argc >= 4 && strcmp(argv[1], "serve") == 0)
		return serve(argv[2], argv + 3);
	if (argc >= 6 && strcmp(argv[1], "ask") == 0)
		return ask(argc, argv);
	if (argc == 4 && strcmp(argv[1], "hold") == 0)
		return hold(argv);
	fprintf(stderr, "usage: echo serve NAME PORT... | ask tcp|udp IP PORT N [SPORT] | hold IP "
			"PORT\n");
	return 2;
}
