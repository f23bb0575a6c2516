using CppSharp.AST;
using CppSharp.AST.Extensions;
using CppSharp.Generators;
using CppSharp.Generators.CSharp;

namespace SieveAttention.Bindings;

/// <summary>
/// C types as blittable C# types. Differs from CppSharp's own printer where that one gives up type safety or picks a type by the
/// machine it runs on, and refuses what has no fixed width instead of guessing.
/// </summary>
internal sealed class NativeTypePrinter : CSharpTypePrinter
{
    private const string Address = "nint";

    private static readonly Dictionary<string, string> s_fixedWidth = new()
    {
        ["int8_t"] = "sbyte",
        ["uint8_t"] = "byte",
        ["int16_t"] = "short",
        ["uint16_t"] = "ushort",
        ["int32_t"] = "int",
        ["uint32_t"] = "uint",
        ["int64_t"] = "long",
        ["uint64_t"] = "ulong",
    };

    public NativeTypePrinter(BindingContext context) : base(context)
    {
        PushContext(TypePrinterContextKind.Native);
    }

    internal string Signature(QualifiedType type)
    {
        return type.Type.Desugar() is TagType { Declaration: Class @class }
            ? throw new NotSupportedException($"{@class.OriginalName} is passed by value; the header passes structures by pointer.")
            : type.Visit(this);
    }

    internal string Argument(Function function, Parameter parameter)
    {
        // CppSharp would name it _0.
        return string.IsNullOrEmpty(parameter.OriginalName)
            ? throw new NotSupportedException($"{function.OriginalName} has an unnamed parameter.")
            : $"{Signature(parameter.QualifiedType)} {CSharpSources.SafeIdentifier(parameter.OriginalName)}";
    }

    internal string Member(Field field)
    {
        string name = CSharpSources.SafeIdentifier(field.OriginalName);
        return field.QualifiedType.Type.Desugar() switch
        {
            ArrayType { SizeType: ArrayType.ArraySize.Constant } array when array.Type.Desugar() is BuiltinType =>
                $"fixed {array.QualifiedType.Visit(this)} {name}[{array.Size}]",
            ArrayType => throw new NotSupportedException($"{field.OriginalName}: only arrays of numbers are supported."),
            // Most of them are device memory, which managed code passes on and never dereferences.
            PointerType pointer when !IsFunction(pointer) => $"{Address} {name}",
            _ => $"{field.QualifiedType.Visit(this)} {name}",
        };
    }

    public override TypePrinterResult VisitPointerType(PointerType pointer, TypeQualifiers quals)
    {
        return pointer.Pointee.Desugar() switch
        {
            FunctionType function => function.Visit(this),
            // CppSharp prints T ** as an address too, and callers then pass the handle instead of where to put it.
            PointerType => $"{Address}*",
            // Strings stay raw UTF-8; CppSharp would marshal them and free what the library owns.
            BuiltinType { Type: not PrimitiveType.Void } => $"{pointer.Pointee.Visit(this)}*",
            TagType { Declaration: Class { IsIncomplete: false } @class } => $"{Names.Pascal(@class.OriginalName)}*",
            _ => Address,
        };
    }

    /// <summary>A function pointer rather than a delegate: delegates handed to native code are not kept alive by it.</summary>
    public override TypePrinterResult VisitFunctionType(FunctionType function, TypeQualifiers quals)
    {
        IEnumerable<string> types = function.Parameters.Select(parameter => Signature(parameter.QualifiedType))
            .Append(Signature(function.ReturnType));
        return $"delegate* unmanaged[Cdecl]<{string.Join(", ", types)}>";
    }

    public override TypePrinterResult VisitTypedefType(TypedefType typedef, TypeQualifiers quals)
    {
        return s_fixedWidth.TryGetValue(typedef.Declaration.OriginalName, out string? name)
            ? name
            : typedef.Declaration.QualifiedType.Visit(this);
    }

    public override TypePrinterResult VisitTagType(TagType tag, TypeQualifiers quals) => Names.Pascal(tag.Declaration.OriginalName);

    public override TypePrinterResult VisitBuiltinType(BuiltinType builtin, TypeQualifiers quals)
    {
        return builtin.Type switch
        {
            PrimitiveType.Void => "void",
            PrimitiveType.Char => "byte",
            PrimitiveType.Float => "float",
            PrimitiveType.Double => "double",
            _ => throw new NotSupportedException($"{builtin.Type} differs between platforms; the header uses the types of stdint.h."),
        };
    }

    private static bool IsFunction(PointerType pointer) => pointer.Pointee.Desugar() is FunctionType;
}
