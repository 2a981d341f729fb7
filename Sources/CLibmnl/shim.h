#pragma once
#include <stdint.h>
#include <stdio.h>
#include <libmnl/libmnl.h>
