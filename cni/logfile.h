/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The log's file (log_file_path), beside stderr, where no server runs the verbs: all that run at a time
 * append to it. A server has a log of its own.
 * One that has grown too long is renamed to PATH.1 when it is opened next, that one to PATH.2, and so on.
 */
#pragma once

struct cni_conf;
struct cni_shared;

/* Nothing where the configuration names none. A file that cannot be opened is told on stderr. */
void logfile_open(const struct cni_conf *conf);
void logfile_close(void);
/* Where a server runs the verb: that the file is not written, once for each configuration. */
void logfile_pass_over(struct cni_shared *shared, const struct cni_conf *conf);
