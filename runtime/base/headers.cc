#include "runtime/base/headers.h"
