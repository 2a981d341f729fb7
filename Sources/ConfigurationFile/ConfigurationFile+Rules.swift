internal import Configuration

extension ConfigurationFile {
  /// The text of a rule, which is there as such, or as a mapping of its properties.
  /// - Parameter number: which of all it is, from 1 on.
  func rule(_ node: Node, number: Int, _ setting: Setting) throws(Problems) -> String {
    let text: String
    if case .mapping(let pairs) = node.content {
      text = try words(pairs, setting).joined(separator: " ")
    } else {
      do {
        text = try self.text(node, setting)
      } catch {
        throw Problems([error])
      }
    }
    do {
      _ = try PolicyRule(text, number: number)
    } catch {
      throw Problems([Self.problem(error, of: setting, at: node)])
    }
    return text
  }

  /// Tells all that is wrong with the properties, each at its place.
  private func words(_ pairs: [Node.Pair], _ setting: Setting) throws(Problems) -> [String] {
    var words: [String] = []
    var problems: [Problem] = []
    for pair in pairs {
      do throws(Problem) {
        words.append(try word(pair, setting))
      } catch {
        problems.append(error)
      }
    }
    guard problems.isEmpty else { throw Problems(problems) }
    return words
  }

  private func word(_ pair: Node.Pair, _ setting: Setting) throws(Problem) -> String {
    guard case .text(let name, _) = pair.key.content else {
      throw Problem("expected a property of a rule, not \(pair.key.kind)", at: pair.key.place)
    }
    guard let key = PolicyRule.Key(rawValue: name) else {
      let nearest = nearestWord(to: name, among: PolicyRule.Key.allCases.map(\.rawValue))
      throw Problem(
        "\(setting.name): \(name) is no property of a rule"
          + (nearest.map { ": did you mean \($0)?" } ?? ""), at: pair.key.place)
    }
    let nodes = if case .list(let nodes) = pair.value.content { nodes } else { [pair.value] }
    var values: [String] = []
    for node in nodes {
      guard case .text(let value, _) = node.content, !node.isEmpty else {
        throw Problem(
          "\(setting.name): \(name): expected a value or a list of values, not \(node.kind)",
          at: node.place)
      }
      guard !value.contains(where: \.isWhitespace) else {
        throw Problem("\(setting.name): \(name) \(value): expected no space in it", at: node.place)
      }
      do {
        try PolicyRule.check(key, value)
      } catch {
        throw Self.problem(error, of: setting, at: node)
      }
      values.append(value)
    }
    return "\(name)=\(values.joined(separator: ","))"
  }
}
