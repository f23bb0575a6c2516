using CppSharp.AST;
using CppSharp.Generators;

namespace SieveAttention.Bindings;

/// <summary>Enumerations, with the members in .NET spelling and without their common prefix.</summary>
internal sealed class EnumSource(BindingContext context, TranslationUnit unit) : InteropSource(context, unit)
{
    internal override string FileName => "SieveEnums";

    protected override void WriteUsings()
    {
    }

    protected override void WriteDeclarations()
    {
        foreach (Enumeration enumeration in TranslationUnit.Enums)
        {
            NewLine();
            WriteComment(enumeration);
            // int whatever clang chose (unsigned where no value is negative): the interface passes every enumeration as int32_t.
            // Never [Flags], which CppSharp guesses from the values and gets wrong for dense enumerations of few members.
            WriteLine($"internal enum {Names.Pascal(enumeration.OriginalName)}");
            WriteOpenBraceAndIndent();
            int prefix = Names.CommonWords(enumeration.OriginalName, enumeration.Items.Select(item => item.OriginalName));
            foreach (Enumeration.Item item in enumeration.Items)
            {
                WriteComment(item);
                WriteLine($"{Names.Pascal(item.OriginalName, prefix)} = {Value(enumeration, item)},");
            }

            UnindentAndWriteCloseBrace();
        }
    }

    private static int Value(Enumeration enumeration, Enumeration.Item item)
    {
        // CppSharp keeps the bits of a negative value, so that only the type of the enumeration tells -1 from 4294967295.
        return enumeration.BuiltinType.Type switch
        {
            PrimitiveType.Int => unchecked((int)item.Value),
            PrimitiveType.UInt when item.Value <= int.MaxValue => (int)item.Value,
            _ => throw new NotSupportedException($"{item.OriginalName} does not fit into int32_t."),
        };
    }
}
