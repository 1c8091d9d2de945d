/* SPDX-License-Identifier: GPL-2.0-or-later */
/* margay-cni's commands: argv[0] is the command's name. Each returns the exit status. */
#pragma once

int install_main(int argc, char **argv);
int run_main(int argc, char **argv);
int serve_main(int argc, char **argv);
int uninstall_main(int argc, char **argv);
