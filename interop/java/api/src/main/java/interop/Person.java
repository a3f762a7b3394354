package interop;

import java.io.Serializable;
import java.util.Objects;

/** An argument with a class definition, and with a reference to itself when `friend` is set so. */
public class Person implements Serializable {
    private static final long serialVersionUID = 1L;

    public String name;
    public int age;
    public Person friend;

    public Person() {
    }

    public Person(String name, int age) {
        this.name = name;
        this.age = age;
    }

    @Override
    public boolean equals(Object other) {
        return other instanceof Person && ((Person) other).name.equals(name) && ((Person) other).age == age;
    }

    @Override
    public int hashCode() {
        return Objects.hash(name, age);
    }
}
