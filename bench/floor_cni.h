/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#define FLOOR_GROUP 0x666c6f6f /* of the links that floor_cni has done with */
