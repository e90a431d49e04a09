// Boost.JSON, compiled once: the library itself is not linked.
#include <boost/json/src.hpp>
