import Addressing
import NFTables
import Testing

/// What differs is named with its place, and nothing else is.
struct TableDifferenceTests {
  private static let drop = Rule(.verdict(.drop))
  private static let accept = Rule(.verdict(.accept), comment: "why")

  private static func wanted(_ rules: Rule..., ports: ClosedRange<UInt16>...) -> Table {
    Table(
      family: .inet, name: "t", sets: [NamedSet("ports", ports: ports)],
      chains: [Chain("c", rules: rules)])
  }

  private static func found(_ table: Table, remarks: [String] = []) -> FoundTable {
    FoundTable(
      table.name, remarks: remarks,
      sets: table.sets.map { FoundTable.FoundSet($0.name, $0, remarks: []) },
      chains: table.chains.map {
        FoundTable.FoundChain($0.name, $0.base, remarks: [], rules: $0.rules.map { .ours($0) })
      })
  }

  private func lines(_ found: FoundTable?, _ wanted: Table?) -> [String] {
    TableDifference(from: found, to: wanted).lines
  }

  @Test func isEmptyForTheSame() {
    let table = Self.wanted(Self.drop, Self.accept, ports: 1...9, 22...22)
    #expect(lines(Self.found(table), table) == [])
    #expect(lines(nil, nil) == [])
    #expect(Self.found(table).table == table)
    #expect(Self.found(table).foreign == [])
  }

  @Test func showsAllOfATableThatIsNotThere() {
    let table = Self.wanted(Self.drop, ports: 22...22)
    let parts = [
      "table inet t", "\tset ports", "\t\ttype inet_service", "\t\tflags interval", "\t\t22",
      "\tchain c", "\t\tdrop",
    ]
    #expect(lines(nil, table) == parts.map { "+\($0)" })
    #expect(lines(Self.found(table), nil) == parts.map { "-\($0)" })
  }

  @Test func showsElementsThatChanged() {
    let old = Self.found(Self.wanted(ports: 1...9, 22...22))
    let new = Self.wanted(ports: 1...8, 22...22, 80...80)
    #expect(
      lines(old, new) == [
        " table inet t", " \tset ports", "-\t\t1-9", "+\t\t1-8", "+\t\t80",
      ])
  }

  @Test func showsSetsOfAnotherKindWhole() {
    let old = FoundTable(
      "t", remarks: [],
      sets: [FoundTable.FoundSet("ports", NamedSet("ports", interfaceGroups: [5]), remarks: [])],
      chains: [FoundTable.FoundChain("c", nil, remarks: [], rules: [])])
    #expect(
      lines(old, Self.wanted(ports: 5...5)) == [
        " table inet t", " \tset ports", "-\t\ttype devgroup", "-\t\t5",
        "+\t\ttype inet_service", "+\t\tflags interval", "+\t\t5",
      ])
  }

  @Test func showsRulesInTheirOrder() {
    let old = Self.found(Self.wanted(Self.drop, Self.accept))
    #expect(
      lines(old, Self.wanted(Self.accept, Self.drop)) == [
        " table inet t", " \tchain c", "-\t\tdrop", "+\t\tdrop",
      ])
  }

  @Test func showsWhatIsForeign() {
    let table = Self.wanted(Self.drop)
    let old = FoundTable(
      "t", remarks: ["flags dormant"],
      sets: [FoundTable.FoundSet("ports", table.sets[0], remarks: ["[ size ]"])],
      chains: [
        FoundTable.FoundChain(
          "c", nil, remarks: ["[ counter ]"], rules: [.ours(Self.drop), .foreign("[ last ]")])
      ])
    #expect(
      lines(old, table) == [
        " table inet t", "-\tflags dormant", " \tset ports", "-\t\t[ size ]", " \tchain c",
        "-\t\t[ counter ]", "-\t\t[ last ]",
      ])
    #expect(
      old.foreign == [
        "table t: flags dormant", "set ports: [ size ]", "chain c: [ counter ]",
        "chain c: [ last ]",
      ])
  }
}
