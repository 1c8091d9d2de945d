/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the plugin, a pipe (pipe.c), and margay-cni serve say to each other on cni.sock, a connection of
 * SOCK_SEQPACKET for each verb:
 *
 *	request: struct pipe_request, behind it the environment ("NAME=VALUE", each with its NUL), with
 *	         the descriptors; then the configuration, as the runtime gave it
 *	answer:  struct pipe_answer; then what is for stdout and what is for stderr, one after the other
 *
 * The first packet is sent right after connecting: a server that has none after PIPE_FIRST_MS closes the
 * connection, for the others' sake. Who cannot send it then (EPIPE) has asked for nothing, and connects anew.
 *
 * What follows the first packet comes in packets of PIPE_PACKET_MAX, the last of which may be
 * shorter. Numbers are the host's. The plugin is linked with libc alone: nothing else is included here.
 */
#pragma once

#include <stdint.h>

#define PIPE_SOCKET "cni.sock" /* in $MARGAY_RUN_DIR */
#define PIPE_RUN_DIR "/run/margay"
/* In the environment of the margay-cni that the plugin becomes: where the plugin is. */
#define PIPE_SELF "CNI_MARGAY_PLUGIN"
#define PIPE_MAGIC 0x6d726779u
#define PIPE_VERSION 2
#define PIPE_PACKET_MAX 65536
#define PIPE_ENV_MAX 32768		  /* bytes of environment */
#define PIPE_CONF_MAX (1024 * 1024)	  /* bytes of configuration */
#define PIPE_ANSWER_MAX (4 * 1024 * 1024) /* bytes of stdout and stderr together */
/* How long a server waits for the first packet, and others with it. */
#define PIPE_FIRST_MS 100
/* How long the plugin waits for its answer: the server gives up before. */
#define PIPE_TIMEOUT_S 60
/* How the plugin ends where a verb fails: all is as before; or something may be left, or be done yet. */
#define PIPE_EXIT_FAILED 1
#define PIPE_EXIT_UNSURE 2

/* Which descriptors come along, in this order: those of the pod's network namespace. */
enum pipe_fd {
	PIPE_FD_NETNS, /* the namespace */
	PIPE_FD_NL,    /* a NETLINK_ROUTE socket made in it */
	PIPE_FD_IPV4,  /* /proc/sys/net/ipv4 there */
	PIPE_FD_IPV6,  /* /proc/sys/net/ipv6 there */
	PIPE_N_FDS,
};

struct pipe_request {
	uint32_t magic;
	uint16_t version;
	uint8_t ipam_only;    /* called as margay-ipam or calico-ipam */
	uint8_t netns_is_own; /* CNI_NETNS is the host's, and none of it was opened */
	uint32_t fds;	      /* 1 << enum pipe_fd for each that comes along */
	int32_t netns_errno;  /* why others do not */
	uint32_t env_len, conf_len;
	int64_t started_ms; /* CLOCK_MONOTONIC: when PIPE_TIMEOUT_S began */
};

#define PIPE_HEAD 8 /* bytes of a request by which any version is known: magic and version */

enum pipe_kind {
	PIPE_DONE, /* exit with exit_code */
	/*
	 * Not of this version, or not for a server: run margay-cni. What is for stdout is for its environment
	 * then: "NAME=VALUE", or nothing.
	 */
	PIPE_RUN_SELF,
};

struct pipe_answer {
	uint32_t magic;
	uint16_t version;
	uint8_t kind, exit_code;
	uint32_t out_len, log_len;
};
