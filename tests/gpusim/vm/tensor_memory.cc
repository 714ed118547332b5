#include "tests/gpusim/vm/tensor_memory.h"

#include <algorithm>

#include "runtime/base/strings.h"

namespace trireme::gpusim {
namespace {

constexpr int kUnit = 32;  // columns that are given out together

}  // namespace

int TensorMemory::Allocate(int columns) {
  if (cells_.empty()) {
    cells_.assign(size_t{kLanes} * kColumns, 0xffffffffu);
    units_.resize(size_t{kLanes / kUnitLanes} * kColumns);
  }
  const int wanted = columns / kUnit;
  for (int first = 0; first + wanted <= kColumns / kUnit; ++first) {
    const auto begin = owner_.begin() + first;
    if (std::any_of(begin, begin + wanted, [](int owner) { return owner != 0; })) continue;
    std::fill(begin, begin + wanted, first + 1);
    EachUnit({0, kLanes, first * kUnit, columns}, [](Unit* unit) { unit->defined = false; });
    return first * kUnit;
  }
  return -1;
}

bool TensorMemory::Free(int column, int columns) {
  const int first = column / kUnit;
  const auto mine = [&](int owner) { return owner == first + 1; };
  if (column % kUnit != 0 || column + columns > kColumns ||
      std::count_if(owner_.begin(), owner_.end(), mine) != columns / kUnit ||
      !mine(owner_[static_cast<size_t>(first)])) {
    return false;
  }
  std::replace(owner_.begin(), owner_.end(), first + 1, 0);
  return true;
}

int TensorMemory::allocated() const {
  return kUnit * static_cast<int>(std::count_if(owner_.begin(), owner_.end(),
                                                [](int owner) { return owner != 0; }));
}

bool TensorMemory::Holds(const TensorPlace& place) const {
  if (place.lane < 0 || place.lane + place.lanes > kLanes || place.column < 0 ||
      place.columns < 1 || place.column + place.columns > kColumns) {
    return false;
  }
  for (int i = place.column / kUnit; i <= (place.column + place.columns - 1) / kUnit; ++i) {
    if (owner_[static_cast<size_t>(i)] == 0) return false;
  }
  return true;
}

template <typename F>
void TensorMemory::EachUnit(const TensorPlace& place, F&& f) {
  for (int row = place.lane / kUnitLanes; row * kUnitLanes < place.lane + place.lanes; ++row) {
    for (int column = place.column; column < place.column + place.columns; ++column) {
      f(&units_[static_cast<size_t>(row * kColumns + column)]);
    }
  }
}

template <typename F>
bool TensorMemory::AnyUnit(const TensorPlace& place, F&& f) const {
  for (int row = place.lane / kUnitLanes; row * kUnitLanes < place.lane + place.lanes; ++row) {
    for (int column = place.column; column < place.column + place.columns; ++column) {
      if (f(UnitAt(row * kUnitLanes, column))) return true;
    }
  }
  return false;
}

// Whether `who` does not come after `before`; *fault says why.
bool TensorMemory::Disordered(const Access& before, const TensorAccessor& who, const char* what,
                              Fault* fault) {
  const Stamp& as = before.as;
  if (as.time == 0 || as.agent == who.warp_agent) return false;
  // tcgen05 operations of one thread run in order.
  if (as.agent == who.as.agent && as.lane == who.as.lane) return false;
  if (who.fenced->Of(as.agent).Covers(as.lane, as.time)) return false;
  if (who.seen->Of(as.agent).Covers(as.lane, as.time)) {
    if (as.agent == who.issue_agent) return false;  // its own, and it has waited for it
    *fault = {FindingKind::kMissingTensorFence,
              StrCat("ordered after another thread's ", what,
                     " but for a missing tcgen05.fence::after_thread_sync")};
  } else if (before.plain.time != 0 &&
             who.seen->Of(before.plain.agent).Covers(before.plain.lane, before.plain.time)) {
    *fault = {FindingKind::kMissingTensorFence,
              StrCat("ordered after another thread's ", what,
                     ", which has not executed tcgen05.fence::before_thread_sync behind it")};
  } else {
    *fault = {FindingKind::kRaceTensor, StrCat("not ordered after another thread's ", what)};
  }
  return true;
}

bool TensorMemory::CheckRead(const TensorPlace& place, const TensorAccessor& who,
                             Fault* fault) const {
  return AnyUnit(place, [&](const Unit& unit) {
    if (unit.writes_in_flight > 0) {
      *fault = {FindingKind::kInFlight, "a tcgen05.st has not been waited for"};
      return true;
    }
    if (!unit.defined) {
      *fault = {FindingKind::kUninitializedTensor, "reads what nobody has written"};
      return true;
    }
    return Disordered(unit.writer, who, "write", fault);
  });
}

bool TensorMemory::CheckWrite(const TensorPlace& place, const TensorAccessor& who,
                              Fault* fault) const {
  return AnyUnit(place, [&](const Unit& unit) {
    if (unit.writes_in_flight > 0 || unit.reads_in_flight > 0) {
      *fault = {FindingKind::kInFlight,
                StrCat("a tcgen05.", unit.writes_in_flight > 0 ? "st" : "ld",
                       " has not been waited for")};
      return true;
    }
    return Disordered(unit.writer, who, "write", fault) ||
           Disordered(unit.readers[0], who, "read", fault) ||
           Disordered(unit.readers[1], who, "read", fault);
  });
}

void TensorMemory::NoteReader(Unit* unit, const TensorAccessor& who) {
  if (unit->readers[0].as.time == 0 || unit->readers[0].as.agent == who.as.agent) {
    unit->readers[0] = {who.as, who.plain};
    return;
  }
  if (unit->readers[1].as.time != 0 && unit->readers[1].as.agent != who.as.agent) {
    unit->readers[0] = unit->readers[1];
  }
  unit->readers[1] = {who.as, who.plain};
}

void TensorMemory::NoteWriter(Unit* unit, const TensorAccessor& who) {
  unit->defined = true;
  unit->writer = {who.as, who.plain};
  unit->readers = {};
}

bool TensorMemory::Read(const TensorPlace& place, const TensorAccessor& who, Fault* fault) {
  const bool wrong = CheckRead(place, who, fault);
  EachUnit(place, [&](Unit* unit) { NoteReader(unit, who); });
  return wrong;
}

bool TensorMemory::Write(const TensorPlace& place, const TensorAccessor& who, Fault* fault) {
  const bool wrong = CheckWrite(place, who, fault);
  EachUnit(place, [&](Unit* unit) { NoteWriter(unit, who); });
  return wrong;
}

void TensorMemory::Begin(const TensorPlace& place, bool writes) {
  EachUnit(place, [&](Unit* unit) { ++(writes ? unit->writes_in_flight : unit->reads_in_flight); });
}

void TensorMemory::End(const TensorPlace& place, bool writes, const TensorAccessor& who) {
  EachUnit(place, [&](Unit* unit) {
    --(writes ? unit->writes_in_flight : unit->reads_in_flight);
    if (writes) {
      NoteWriter(unit, who);
    } else {
      NoteReader(unit, who);
    }
  });
}

}  // namespace trireme::gpusim
