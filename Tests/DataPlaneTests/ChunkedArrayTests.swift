import Testing

@testable import DataPlane

/// Takes notice of elements that are made and gone.
private final class Census {
  var living = 0
}

private struct Citizen: ~Copyable {
  let number: Int
  let census: Census

  init(_ number: Int, _ census: Census) {
    (self.number, self.census) = (number, census)
    census.living += 1
  }

  deinit { census.living -= 1 }
}

struct ChunkedArrayTests {
  /// Less than a chunk, chunks that are just full, and one that is begun.
  @Test(arguments: [0, 1, 1023, 1024, 1025, 4096, 5000])
  func elementsStayWhereTheyAreUntilTheArrayGoes(count: Int) {
    let census = Census()
    fill(count, census)
    #expect(census.living == 0)
  }

  private func fill(_ count: Int, _ census: Census) {
    var array = ChunkedArray<Citizen>()
    var places: [UnsafeMutablePointer<Citizen>] = []
    for number in 0..<count {
      array.append(Citizen(number, census))
      places.append(array[number])
    }
    let found = array.count
    #expect(found == count)
    #expect(census.living == count)
    for number in 0..<count {
      let place = array[number]
      #expect(place == places[number])
      #expect(place.pointee.number == number)
    }
    #expect(Set(places).count == count)
  }
}
