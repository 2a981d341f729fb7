/// Values in any of some ranges, found by halving.
package struct RangeSet<Bound: Comparable & Hashable & Sendable>: Hashable, Sendable {
  /// Sorted, none of them overlapping.
  private var ranges: [ClosedRange<Bound>] = []

  package init(_ ranges: [ClosedRange<Bound>]) {
    for range in ranges.sorted(by: { $0.lowerBound < $1.lowerBound }) {
      if let last = self.ranges.last, range.lowerBound <= last.upperBound {
        let upper = max(last.upperBound, range.upperBound)
        self.ranges[self.ranges.count - 1] = last.lowerBound...upper
      } else {
        self.ranges.append(range)
      }
    }
  }

  package var isEmpty: Bool { ranges.isEmpty }

  package func contains(_ value: Bound) -> Bool {
    var (low, high) = (0, ranges.count)
    while low < high {
      let middle = (low + high) / 2
      if ranges[middle].upperBound < value {
        low = middle + 1
      } else {
        high = middle
      }
    }
    return low < ranges.count && ranges[low].lowerBound <= value
  }
}
